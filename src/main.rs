//! The binary `modelcache`, also installed as `kubectl-modelcache`.

use modelcache::cli::{self, Called};
use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything makes a TLS client: one provider of cryptography for the whole process.
    modelcache::hub::install_crypto();
    match Called::parse(std::env::args_os()) {
        Ok(called) => ExitCode::from(cli::run(called)),
        Err(error) => {
            // Help goes to stdout with 0, a mistake to stderr with 2. A closed pipe is nobody's mistake.
            let _ = error.print();
            u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
        }
    }
}
