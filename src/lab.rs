//! Lab.
use crate::cli::Lab;
use crate::exit::{Exit, Outcome};
pub(crate) async fn run(_args: &Lab) -> Outcome { Ok(Exit::Failed) }
