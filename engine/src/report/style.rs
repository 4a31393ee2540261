//! The page's style sheet: light and dark, colours that the colour-blind can tell apart, printable.

/// Colours of lines and cases (Okabe and Ito's palette without black and yellow).
pub const PALETTE: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"];

/// Colour of a node by outcome.
pub fn outcome_colour(outcome: &str) -> &'static str {
    match outcome {
        "ran" => "#009e73",
        "hit" => "#8a8f98",
        "failed" => "#d55e00",
        _ => "#cc79a7",
    }
}

/// The style sheet.
pub const CSS: &str = "
:root{color-scheme:light dark;--ink:#1c2430;--paper:#fff;--soft:#f3f5f8;--line:#d8dde5;--dim:#5c6675}
@media(prefers-color-scheme:dark){:root{--ink:#e4e8ee;--paper:#14181e;--soft:#1d232b;--line:#343c47;--dim:#98a2b0}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);margin:0 auto;max-width:1120px;padding:24px}
h1{font-size:24px;margin:0 0 4px}h2{font-size:18px;margin:36px 0 10px;border-bottom:1px solid var(--line);padding-bottom:4px}
h3{font-size:15px;margin:18px 0 6px}p{margin:6px 0}.dim{color:var(--dim)}
table{border-collapse:collapse;font-size:13.5px;width:100%}th,td{text-align:left;padding:4px 10px 4px 0;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--dim);font-weight:600}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
.tag{color:#fff;border-radius:3px;padding:0 6px;font-size:12px}
.wide{overflow-x:auto}.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(330px,1fr));gap:16px}
svg{max-width:100%;height:auto}svg text{fill:var(--ink);font:11px system-ui,sans-serif}svg .grid{stroke:var(--line)}
details{border:1px solid var(--line);border-radius:5px;margin:8px 0;padding:6px 12px;background:var(--soft)}summary{cursor:pointer}
pre{white-space:pre-wrap;word-break:break-word;font:13px/1.45 ui-monospace,monospace;margin:4px 0 10px}
mark{background:#e69f0055;color:inherit}.sides{display:grid;grid-template-columns:1fr 1fr;gap:18px}
@media(max-width:760px){.sides{grid-template-columns:1fr}}@media print{details{break-inside:avoid}}
";
