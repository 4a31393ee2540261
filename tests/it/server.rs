//! A server on 127.0.0.1 that gives every request the same answer.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Answers until the test program ends.
pub struct Server {
    port: u16,
    asked: Arc<Mutex<String>>,
}

impl Server {
    /// Answers every request with this status and body.
    pub fn answers(status: u16, body: &str) -> Server {
        let length = body.len();
        Server::says(format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"))
    }

    /// Reads every request and closes the connection.
    pub fn hangs_up() -> Server {
        Server::says(String::new())
    }

    /// Returns an endpoint at which nobody listens.
    pub fn address_of_nobody() -> String {
        endpoint(TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port())
    }

    /// Returns its endpoint.
    pub fn endpoint(&self) -> String {
        endpoint(self.port)
    }

    /// Says whether a request held this text.
    pub fn was_asked_with(&self, text: &str) -> bool {
        self.asked.lock().unwrap().contains(text)
    }

    /// Returns how many requests came.
    pub fn times_asked(&self) -> usize {
        self.asked.lock().unwrap().matches("HTTP/1.1\r\n").count()
    }

    fn says(answer: String) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, asked) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(String::new())));
        let heard = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, heard) = (answer.clone(), heard.clone());
                std::thread::spawn(move || serve(stream, &answer, &heard));
            }
        });
        Server { port, asked }
    }
}

fn endpoint(port: u16) -> String {
    format!("http://127.0.0.1:{port}/v1")
}

/// Reads one whole request, then answers: a connection closed before that looks broken to the client.
fn serve(mut stream: TcpStream, answer: &str, heard: &Mutex<String>) {
    let (mut request, mut chunk) = (Vec::new(), [0; 4096]);
    while !is_whole(&String::from_utf8_lossy(&request)) {
        match stream.read(&mut chunk) {
            Ok(read @ 1..) => request.extend_from_slice(&chunk[..read]),
            _ => return,
        }
    }
    heard.lock().unwrap().push_str(&String::from_utf8_lossy(&request));
    // The client may have left; then nobody misses the answer.
    let _ = stream.write_all(answer.as_bytes());
}

fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    body.len() >= length.unwrap_or(0)
}
