//! A loopback server that plays recorded replies, for faults that the real teacher of this repository cannot make.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// Plays a list of replies, one a request, the last one for ever.
pub struct Fake {
    /// Base address for `endpoint`.
    pub endpoint: String,
    /// Requests so far: head and body as they came.
    pub requests: Arc<Mutex<Vec<String>>>,
}

/// An answer as it goes over the wire; an empty one closes the connection without a word.
pub fn answer(status: u16, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

/// A chat completion as OpenAI sends it.
pub fn completion(text: &str, finish: &str) -> String {
    let body = serde_json::json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "fake-1", "system_fingerprint": "fp_1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    });
    answer(200, "content-type: application/json\r\n", &body.to_string())
}

impl Fake {
    /// Starts the server on a free port; its thread ends with the test process.
    pub fn start(replies: Vec<String>) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}/v1", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let request = read_request(&mut BufReader::new(stream.try_clone().unwrap()));
                let mut seen = seen.lock().unwrap();
                let reply = &replies[seen.len().min(replies.len() - 1)];
                seen.push(request);
                let _ = stream.write_all(reply.as_bytes());
            }
        });
        Fake { endpoint, requests }
    }

    /// Returns how many requests came.
    pub fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

fn read_request(stream: &mut impl BufRead) -> String {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    let _ = stream.read_exact(&mut body);
    head + &String::from_utf8_lossy(&body)
}
