//! `init`: writes a project that runs as it stands.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{Common, Format, Template, out};

/// Options of `init`.
#[derive(Args)]
pub struct Options {
    /// Folder to write into; made if it is not there.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Which project.
    #[arg(long, value_name = "NAME", default_value = "quickstart")]
    template: String,
}

pub fn init(options: &Options, common: &Common, templates: &[Template]) -> i32 {
    let Some(template) = templates.iter().find(|t| t.name == options.template) else {
        let names: Vec<String> = templates.iter().map(|t| format!("  {:11} {}", t.name, t.about)).collect();
        out::complain(format!("error: there is no template `{}`; there are\n{}", options.template, names.join("\n")));
        return 2;
    };
    let there = template.files.iter().map(|(name, _)| options.folder.join(name)).find(|p| p.exists());
    if let Some(path) = there.filter(|p| p.file_name().is_none_or(|n| n != ".gitignore")) {
        out::complain(format!("error: `{}` exists already; choose another folder", path.display()));
        return 1;
    }
    match write(options, template) {
        Ok(()) => {
            tell(options, common, template);
            0
        }
        Err(error) => {
            out::complain(format!("error: cannot write into `{}`: {error}", options.folder.display()));
            6
        }
    }
}

fn tell(options: &Options, common: &Common, template: &Template) {
    let (folder, Template { name, about, files }) = (options.folder.display(), template);
    if common.format == Format::Json {
        let files: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
        return out::json(&json!({"template": name, "folder": options.folder, "files": files}));
    }
    out::say(format!("wrote {name} ({about}) to {folder}\nnext: cd {folder} && watershed run"));
}

fn write(options: &Options, template: &Template) -> std::io::Result<()> {
    fs::create_dir_all(&options.folder)?;
    // Marks the project's root, so that the store lies here and not in a repository around it.
    fs::write(options.folder.join("watershed.root"), "")?;
    for (name, text) in template.files {
        let path = options.folder.join(name);
        if !path.exists() {
            fs::write(path, text)?;
        }
    }
    Ok(())
}
