//! `forebay`: data lands raw and untouched, then sandboxed WebAssembly transforms make it warehouse tables.
//!
//! What the program promises is in `ARCHITECTURE.md`; what a person can do with it, in `cli`.

mod assemble;
mod bundle;
mod cli;
mod config;
mod failpoint;
mod logs;
mod query;
mod requests;
mod rules;
mod run;
mod shadow;
mod sides;
mod who;

use std::process::ExitCode;

fn main() -> ExitCode {
    // The sandbox compiles modules in a process of its own, which is this program again: it needs nothing else.
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|verb| verb == assemble::COMPILE_VERB) {
        return assemble::compile_module(arguments);
    }
    choose_tls_provider();
    cli::main()
}

/// More than one TLS provider is linked in: without a choice, the first client would panic.
fn choose_tls_provider() {
    // It fails only where a provider has been chosen already, which is as good.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_tls_provider_is_chosen() {
        super::choose_tls_provider();
        assert!(rustls::crypto::CryptoProvider::get_default().is_some());
    }
}
