//! `vswitch`: the command line and the daemon. `main` reads like a table of contents: arguments, the verb, the exit status.
#![forbid(unsafe_code)]
mod api;
mod args;
mod commands;
mod config;
mod daemon;
mod errors;
mod plan;
mod print;
mod publish;
mod reach;
mod resolv_conf;
mod rundir;
mod settings;
mod state;

use args::{Args, Verb};
use clap::Parser;
use std::process::ExitCode;
use vswitch_io::sys::tables::Tables;

#[global_allocator]
static ALLOCATOR: Tables = Tables;

fn main() -> ExitCode {
    let args = Args::parse();
    let name = args.verb.name();
    let result = match args.verb {
        Verb::Up(up) => commands::up::run(&up),
        Verb::Down => commands::down::run(),
        Verb::Restart => commands::restart::run(),
        Verb::Attach(attach) => commands::attach::run(&attach),
        Verb::Run(run) => return commands::run::run(&run),
        Verb::RunInner { setup, command } => return commands::run::inner::run(&setup, &command),
        Verb::RunPlug { order } => commands::run::plug(&order),
        Verb::Exec(exec) => return commands::exec::run(&exec),
        Verb::Detach { container } => commands::detach::run(&container),
        Verb::Set { name, settings } => commands::set::run(name, settings),
        Verb::Fdb { action, json } => commands::fdb::run(action, json),
        Verb::Groups { json } => commands::groups::run(json),
        Verb::Mirror { name, file } => commands::mirror::run(name, &file),
        Verb::Apply(apply) => commands::apply::run(&apply),
        Verb::Restore => commands::restore::run(),
        Verb::Show { config: true, .. } => commands::apply::show(),
        Verb::Show { json, .. } => commands::show::run(json),
        Verb::Ports { json } => commands::ports::run(json),
        Verb::Stats { json } => commands::stats::run(json),
        Verb::Events { name, json } => commands::events::run(name.as_deref(), json),
        Verb::Inspect { name, json } => commands::inspect::run(name, json),
        Verb::Uplink { action, json } => commands::uplink::run(action, json),
        Verb::Publish(publish) => commands::publish::run(&publish.spec, &publish.names, &publish.from),
        Verb::Unpublish { port, name } => commands::publish::end(port, name),
        Verb::Published { json } => commands::publish::list(json),
        Verb::Flows(flows) => commands::flows::run(&flows),
        Verb::Flush { what: args::Flush::Flows { name } } => commands::flows::flush(name),
        Verb::Nat { json } => commands::flows::nat(json),
        Verb::Names { json } => commands::names::run(json),
        Verb::Neigh { json } => commands::flows::neigh(json),
        Verb::Leases { json } => commands::leases::run(json),
        Verb::Reserve { address, holder } => commands::leases::reserve(address, holder),
        Verb::Unreserve { address } => commands::leases::unreserve(address),
        Verb::Logs { follow, lines } => commands::logs::run(follow, lines),
        Verb::Doctor { json } => commands::doctor::run(json),
        Verb::DoctorProbe => commands::doctor::probe::run(),
        Verb::Demo(demo) => commands::demo::run(&demo),
        Verb::Generate { what } => commands::generate::run(what),
        Verb::DemoServer { at } => commands::demo::traffic::serve(at),
        Verb::DemoFetch { from, seconds } => commands::demo::traffic::fetch(from, seconds),
        Verb::DemoPing { address } => commands::demo::traffic::ping(address),
        Verb::DemoRelay { a, b } => commands::demo::relay(&a, &b),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of our output is gone ("vswitch fdb | head"): nothing is wrong.
        Err(error) if print::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            print::note(&format!("vswitch {name}: {}", errors::line(&error)));
            ExitCode::from(errors::exit_code(&error))
        }
    }
}
