//! A program as other people write them: the standard library on wasi:cli 0.2. Its first argument says what to do.

use std::{env, fs, io, process::ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> io::Result<ExitCode> {
    match arguments {
        [] => println!("Hello!"),
        ["arguments", rest @ ..] => println!("{rest:?}"),
        ["environment"] => env::vars().for_each(|(name, value)| println!("{name}={value}")),
        ["read", path] => print!("{}", fs::read_to_string(path)?),
        ["write", path, text] => fs::write(path, text)?,
        ["copy"] => drop(io::copy(&mut io::stdin(), &mut io::stdout())?),
        ["exit", code] => return Ok(ExitCode::from(code.parse::<u8>().unwrap_or(1))),
        ["trap"] => std::process::abort(),
        ["loop"] => loop {
            std::hint::spin_loop();
        },
        other => return Err(io::Error::other(format!("{other:?} means nothing"))),
    }
    Ok(ExitCode::SUCCESS)
}
