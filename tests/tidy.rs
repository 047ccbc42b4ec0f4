//! The rules of the house that no compiler checks.
#![allow(missing_docs)]
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use vswitch_switch::DropReason;

const FILE_LINES: usize = 500;
const EXPLANATION: usize = 100;
const MEMBERS: [&str; 6] = ["switch", "nat", "io", "cli", "benches", "tests"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Rust files below a folder of the workspace, as paths from its root.
fn rust_files(folder: &str) -> Vec<String> {
    let mut files = vec![];
    for entry in fs::read_dir(root().join(folder)).expect("a folder") {
        let entry = entry.expect("an entry");
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().expect("a type").is_dir() {
            if entry.file_name() != "target" {
                files.extend(rust_files(&path));
            }
        } else if path.ends_with(".rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// A file's lines with their numbers, less what is under `#[cfg(test)]`; rustfmt closes a block where it began.
fn without_tests(source: &str) -> Vec<(usize, &str)> {
    let mut kept = vec![];
    let mut lines = (1..).zip(source.lines());
    while let Some((number, line)) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            kept.push((number, line));
            continue;
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        if lines.next().is_some_and(|(_, item)| item.ends_with('{')) {
            lines.by_ref().find(|(_, line)| line.strip_prefix(indent) == Some("}"));
        }
    }
    kept
}

fn is_test_module(path: &str) -> bool {
    path.ends_with("/tests.rs")
}

/// Whether the code of a line, not its comment, has `word` with no letter around it.
fn names(line: &str, word: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let is_letter = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word)
        .any(|(at, _)| !code[..at].ends_with(is_letter) && (word.ends_with(':') || !code[at + word.len()..].starts_with(is_letter)))
}

#[test]
fn pure_crates_are_no_std_and_forbid_what_is_not_safe() {
    for name in ["switch", "nat"] {
        let lib = read(&format!("{name}/src/lib.rs"));
        assert!(lib.contains("\n#![no_std]\n") && lib.contains("\n#![forbid(unsafe_code)]\n"), "{name}/src/lib.rs");
        for path in rust_files(&format!("{name}/src")).iter().filter(|path| !is_test_module(path)) {
            for (number, line) in without_tests(&read(path)) {
                assert!(!names(line, "std::") && !names(line, "extern crate std"), "{path}:{number}: {line}");
            }
        }
    }
}

#[test]
fn what_is_not_safe_is_in_io_sys_only() {
    // In two parts, or this line were one.
    let word = concat!("un", "safe");
    let mut inside = 0;
    for path in MEMBERS.iter().flat_map(|member| rust_files(member)) {
        let count = read(&path).lines().filter(|line| names(line, word)).count();
        if path.starts_with("io/src/sys/") {
            inside += count;
        } else {
            assert_eq!(count, 0, "{path}: only io/src/sys/ may");
        }
    }
    assert!(inside > 0, "the search finds none at all");
}

#[test]
fn files_are_short() {
    for path in ["switch", "nat", "io", "cli"].iter().flat_map(|name| rust_files(&format!("{name}/src"))) {
        let lines = without_tests(&read(&path)).len();
        assert!(lines <= FILE_LINES || is_test_module(&path), "{path}: {lines} lines without tests, {FILE_LINES} at the most");
    }
}

/// The string literal that a text begins with, as it is written.
fn literal(text: &str) -> Option<&str> {
    let inside = text.strip_prefix('"')?;
    let mut is_escaped = false;
    let end = inside.find(|c: char| {
        let is_end = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        is_end
    })?;
    Some(&inside[..end])
}

/// Errors that are written where they arise, not in the table: literals of bail! and anyhow!, and contexts that have a remedy, for which
/// there is no reason to be elsewhere. What only names the thing that the error is about is no error of its own.
fn errors_in_place(code: &str) -> Vec<String> {
    let after = |word: &str| code.match_indices(word).map(|(at, _)| code[at + word.len()..].trim_start()).collect::<Vec<_>>();
    let macros = ["bail!(", "anyhow!(", "ensure!("]
        .iter()
        .flat_map(|word| after(word))
        .filter_map(|text| literal(text.trim_start_matches("format!(").trim_start()));
    let contexts = ["context(", "Error::msg(", "Err(", "Error("].iter().flat_map(|word| after(word)).filter_map(|text| {
        let text = text.trim_start_matches("|| ").trim_start_matches("format!(").trim_start();
        literal(text).filter(|literal| literal.contains(": "))
    });
    macros.chain(contexts).map(Into::into).collect()
}

#[test]
fn errors_are_in_the_table() {
    let found = errors_in_place(
        "bail!(\"a \\\"b\\\"\"); anyhow!(\n    \"c\"\n) bail!(Problem) bail!(why) Err(Problem) x.context(\"d\") x.with_context(|| format!(\"e: {f}\"))",
    );
    assert_eq!(found, [r#"a \"b\""#, "c", "e: {f}"], "the search finds too little or too much");
    for path in rust_files("cli/src").iter().filter(|path| !is_test_module(path) && !path.starts_with("cli/src/errors")) {
        let source = read(path);
        let code: Vec<&str> =
            without_tests(&source).into_iter().map(|(_, line)| line).filter(|line| !line.trim().starts_with("//")).collect();
        assert_eq!(errors_in_place(&code.join("\n")), [""; 0], "{path}: an error of its own, to be a variant in cli/src/errors/");
    }
}

#[test]
fn drop_reasons_are_explained_in_a_line() {
    for reason in DropReason::ALL {
        let text = reason.explain();
        let is_line = !text.is_empty() && text.chars().count() <= EXPLANATION && !text.contains('\n') && text.trim() == text;
        assert!(is_line, "{}: {text:?}", reason.name());
    }
}

#[test]
fn every_workspace_dependency_is_used() {
    let manifest = read("Cargo.toml");
    let (_, section) = manifest.split_once("\n[workspace.dependencies]\n").expect("the section");
    let named: Vec<&str> =
        section.lines().take_while(|line| !line.starts_with('[')).filter_map(|line| Some(line.split_once(" = ")?.0)).collect();
    assert!(named.contains(&"libc"), "the section is read wrongly: {named:?}");
    let members: String = MEMBERS.iter().map(|member| read(&format!("{member}/Cargo.toml"))).collect();
    let used = |name: &str| members.lines().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['.', ' '])));
    let unused: Vec<_> = named.into_iter().filter(|name| !used(name)).collect();
    assert!(unused.is_empty(), "in [workspace.dependencies] but no member's: {unused:?}");
}

/// `cargo metadata`, from what is downloaded if that will do.
fn metadata() -> Value {
    let run = |network: &[&str]| {
        Command::new(env!("CARGO"))
            .args(["metadata", "--format-version=1", "--locked", "--filter-platform=x86_64-unknown-linux-gnu"])
            .args(network)
            .current_dir(root())
            .output()
            .expect("cargo runs")
    };
    let mut output = run(&["--offline"]);
    if !output.status.success() {
        output = run(&[]);
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn version(text: &str) -> [u64; 3] {
    let mut parts = text.split('.').map(|part| part.parse().expect("a number"));
    [(); 3].map(|()| parts.next().unwrap_or(0))
}

/// Ids of all packages that the members need, tests and benches not counted.
fn needed(metadata: &Value) -> HashSet<&str> {
    let nodes: HashMap<&str, &Value> =
        metadata["resolve"]["nodes"].as_array().expect("nodes").iter().map(|node| (text(&node["id"]), node)).collect();
    let mut todo: Vec<&str> = metadata["workspace_members"].as_array().expect("members").iter().map(text).collect();
    let mut seen = HashSet::new();
    while let Some(id) = todo.pop() {
        if !seen.insert(id) {
            continue;
        }
        for dependency in nodes[id]["deps"].as_array().expect("dependencies") {
            let kinds = dependency["dep_kinds"].as_array().expect("kinds");
            if kinds.iter().any(|kind| kind["kind"] != "dev") {
                todo.push(text(&dependency["pkg"]));
            }
        }
    }
    seen
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

#[test]
fn rust_version_is_the_highest_that_a_dependency_needs() {
    let metadata = metadata();
    let manifest = read("Cargo.toml");
    let ours = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).expect("rust-version").trim_matches('"');
    let needed = needed(&metadata);
    let mut highest = ([0; 3], String::new());
    for package in metadata["packages"].as_array().expect("packages") {
        let Some(theirs) = package["rust_version"].as_str() else { continue };
        let (name, is_member) =
            (format!("{} {} needs Rust {theirs}", package["name"], package["version"]), package["source"].is_null());
        assert!(version(theirs) <= version(ours), "{name}, ours is {ours}");
        if !is_member && needed.contains(text(&package["id"])) {
            highest = highest.max((version(theirs), name));
        }
    }
    assert_eq!(highest.0, version(ours), "rust-version is {ours}, but {} and no dependency more", highest.1);
}

#[test]
fn no_tracked_file_knows_the_machine_it_was_written_on() {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    let Some(listed) = listed.ok().filter(|output| output.status.success()) else {
        assert!(std::env::var_os("VSWITCH_CI").is_none_or(|v| v != "1"), "cannot run in CI: no git repository");
        return eprintln!("SKIP: no git repository");
    };
    // In two parts, or this file were one of those.
    let paths = [["/wo", "rk/"], ["/ro", "ot/"], ["/tm", "p/wt"]].map(|parts| parts.concat());
    let names = String::from_utf8(listed.stdout).expect("names in UTF-8");
    for name in names.split_terminator('\0') {
        // One that is gone from the working tree will be from the next commit too.
        let Ok(octets) = fs::read(root().join(name)) else { continue };
        for path in &paths {
            assert!(!octets.windows(path.len()).any(|window| window == path.as_bytes()), "{name} has {path}");
        }
    }
}
