pub mod traffic;
pub fn run(_: &crate::args::Demo) -> anyhow::Result<()> {
    Ok(())
}
pub fn relay(_: &str, _: &str) -> anyhow::Result<()> {
    Ok(())
}
