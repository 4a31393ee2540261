//! `get` replaces what an earlier `get` left, and nothing else.

use crate::project::Project;

/// One stage that writes a folder with the file `ours`.
fn project() -> Project {
    let project = Project::new(
        "stages:
  made: {use: command, with: {shell: 'mkdir $OUT_out; echo ours > $OUT_out/ours'}}
",
    );
    project.write("kept/note", "the user's");
    assert_eq!(project.run(&[]).code, 0);
    project
}

fn told(project: &Project, place: &str) -> (i32, String) {
    let output = project.watershed(&["get", "made", "-o", place]);
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_place_that_holds_the_project_or_the_store_is_refused() {
    let project = project();
    let whole = project.path("");
    let around = whole.parent().unwrap();
    for (place, word) in [
        (".", "holds the store"),
        ("..", "holds the store"),
        ("kept/..", "holds the store"),
        (whole.to_str().unwrap(), "holds the store"),
        (around.to_str().unwrap(), "holds the store"),
        (".watershed", "holds the store"),
        (".watershed/v1", "lies in the store"),
    ] {
        let (code, text) = told(&project, place);
        assert_eq!(code, 2, "{place}: {text}");
        assert!(text.contains(word), "{place}: {text}");
    }
    assert_eq!(std::fs::read_to_string(project.path("kept/note")).unwrap(), "the user's");
    assert_eq!(project.run(&[]).outcome("ran"), Vec::<String>::new());
}

#[test]
fn a_folder_with_files_of_the_users_is_not_replaced_and_one_of_an_earlier_get_is() {
    let project = project();
    let (code, text) = told(&project, "kept");
    assert_eq!(code, 2);
    assert!(text.contains("`kept` holds `note`, which is not of the output"), "{text}");
    assert_eq!(std::fs::read_to_string(project.path("kept/note")).unwrap(), "the user's");
    assert_eq!(told(&project, "copy").0, 0);
    project.write("copy/ours", "changed");
    assert_eq!(told(&project, "copy").0, 0);
    assert_eq!(std::fs::read_to_string(project.path("copy/ours")).unwrap(), "ours\n");
    assert_eq!(crate::project::files(&project.path("copy")).len(), 1);
}

#[test]
fn a_damaged_output_leaves_what_was_there() {
    let project = project();
    assert_eq!(told(&project, "copy").0, 0);
    project.write("copy/ours", "mine now");
    for blob in project.blobs() {
        crate::project::flip(&blob, 0);
    }
    assert_eq!(told(&project, "copy").0, 4);
    assert_eq!(std::fs::read_to_string(project.path("copy/ours")).unwrap(), "mine now");
}
