//! `cargo run -p rest`: writes the OpenAPI document and the descriptor set, which are generated
//! from the protos.

use std::{error::Error, fs};

fn main() -> Result<(), Box<dyn Error>> {
    for file in rest::files()? {
        let is_new = fs::read(&file.path).ok().as_deref() != Some(&file.content);
        if is_new {
            fs::write(&file.path, &file.content)?;
        }
        #[expect(clippy::print_stdout, reason = "the output of the command")]
        {
            let state = if is_new { "written" } else { "up to date" };
            println!("{}: {state}", file.path.display());
        }
    }
    Ok(())
}
