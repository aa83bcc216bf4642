//! Holdfast, the XMPP server that does not lose your session.

fn main() -> std::process::ExitCode {
    node::secrecy::keep();
    node::admin::cli::main()
}
