//! Tests that change their process for good, or need it to have one thread only. The standard harness runs every test
//! on a second thread; hence a `main` that knows as much of the harness's arguments as cargo and nextest use
//! (`harness = false` in Cargo.toml). A test runs this program again for the part that changes it ([`run_child`]), which
//! reports by its exit status.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Set for the second part: a directory to work in.
const CHILD: &str = "VSWITCH_TEST_CHILD_DIR";

/// Printed when the second part came to its end.
const THROUGH: &str = "the child is through";

/// A test's name, the test, and the part of it that runs in a program of its own.
pub type Test = (&'static str, fn(), fn(&Path));

/// Runs the tests that the arguments ask for.
pub fn main(tests: &[Test]) {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let given = |arg: &str| args.iter().any(|a| a == arg);
    let filters: Vec<&String> = args.iter().filter(|a| !a.starts_with('-') && *a != "terse").collect();
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|f| name.contains(f.as_str()));
    let child = std::env::var_os(CHILD).map(PathBuf::from);
    for (name, test, in_child) in tests.iter().filter(|(name, ..)| wanted(name)) {
        match &child {
            Some(dir) => {
                in_child(dir);
                println!("{THROUGH}");
            }
            None if given("--list") && !given("--ignored") => println!("{name}: test"),
            None if given("--list") || given("--ignored") => {}
            None => {
                test();
                println!("test {name} ... ok");
            }
        }
    }
}

/// Runs the second part of the test `name` in a program of its own, with `dir` to work in.
pub fn run_child(name: &str, dir: &Path) {
    let out = child(name, dir);
    let text = [&out.stdout, &out.stderr].map(|b| String::from_utf8_lossy(b).into_owned()).concat();
    assert!(out.status.success() && text.contains(THROUGH), "{}: {text}", out.status);
}

/// The same, however it ends.
pub fn child(name: &str, dir: &Path) -> Output {
    let program = std::env::current_exe().unwrap();
    Command::new(program).arg(name).env(CHILD, dir).output().unwrap()
}
