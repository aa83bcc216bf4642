//! Holdfast, the XMPP server that does not lose your session.

/// Memory that a flood took is given back after it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    node::secrecy::keep();
    node::admin::cli::main()
}
