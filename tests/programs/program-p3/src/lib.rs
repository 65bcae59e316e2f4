//! A program on wasi:cli 0.3. Its first argument says what to do.

wit_bindgen::generate!({
    path: ["../../../wit/deps/clocks.wit", "../../../wit/deps/random.wit", "../../../wit/deps/filesystem.wit",
        "../../../wit/deps/sockets.wit", "../../../wit/deps/cli.wit"],
    inline: "
        package test:program;
        world program {
            import wasi:cli/environment@0.3.0;
            import wasi:cli/exit@0.3.0;
            import wasi:cli/stdin@0.3.0;
            import wasi:cli/stdout@0.3.0;
            export wasi:cli/run@0.3.0;
        }
    ",
    world: "test:program/program",
    generate_all,
});

use exports::wasi::cli::run::Guest;
use wasi::cli::{environment, exit, stdin, stdout};

struct Program;

impl Guest for Program {
    async fn run() -> Result<(), ()> {
        let arguments: Vec<String> = environment::get_arguments().into_iter().skip(1).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        match arguments.as_slice() {
            [] => print(b"Hello!\n".to_vec()).await,
            ["arguments", rest @ ..] => print(format!("{rest:?}\n").into_bytes()).await,
            ["environment"] => {
                for (name, value) in environment::get_environment() {
                    print(format!("{name}={value}\n").into_bytes()).await;
                }
            }
            ["copy"] => {
                let (contents, _end) = stdin::read_via_stream();
                print(contents.collect().await).await;
            }
            ["exit", code] => exit::exit_with_code(code.parse().unwrap_or(1)),
            _ => return Err(()),
        }
        Ok(())
    }
}

async fn print(bytes: Vec<u8>) {
    let (mut text, contents) = wit_stream::new();
    let end = stdout::write_via_stream(contents);
    text.write_all(bytes).await;
    drop(text);
    end.await.expect("standard output is open");
}

export!(Program);
