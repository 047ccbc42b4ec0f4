//! Arguments of `fdb`.
use super::Subcommand;
use vswitch_switch::{Mac, Vid};

#[derive(Subcommand)]
pub enum Fdb {
    /// Enter an address by hand: it neither ages nor moves
    Add {
        mac: Mac,
        /// The container it is behind
        name: String,
        #[arg(long, default_value = "1")]
        vlan: Vid,
    },
    /// Forget an address
    Del {
        mac: Mac,
        #[arg(long, default_value = "1")]
        vlan: Vid,
    },
    /// Forget what was learned, of one container or of all
    Flush { name: Option<String> },
}
