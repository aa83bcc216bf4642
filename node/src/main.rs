//! Holdfast, the XMPP server that does not lose your session.

/// This allocator returns memory to the system after a flood; the default one may not.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    node::secrecy::keep();
    node::admin::cli::main()
}
