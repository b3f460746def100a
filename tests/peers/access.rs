//! The official Python client, with a bearer token and without one.

use crate::clients::{self, Step};
use o1_tests::{Gateway, binaries::binary, peers, peers::Server};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::process::Command;

async fn token() -> (String, String) {
    let run = Command::new(binary("o1ctl")).args(["token", "new", "--json"]).output();
    let made: Value = serde_json::from_slice(&run.await.unwrap().stdout).unwrap();
    (made["token"].as_str().unwrap().to_owned(), made["blake3"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_official_client_shows_its_token_and_one_without_sees_the_challenge() {
    let fixture = Server::fixture("both").await;
    let (token, hash) = token().await;
    let gateway = Gateway::start(&format!(
        "upstreams:\n  only:\n    primary:\n      - url: {}\nclients:\n  auth:\n    tokens:\n      \
         - {{name: sdk, blake3: {hash}}}\n",
        fixture.url
    ))
    .await;
    for route in ["/u/only/mcp", "/mcp"] {
        for (mode, version) in [("legacy", "2025-11-25"), ("2026-07-28", "2026-07-28")] {
            let list = Step { method: "tools/list", params: json!({}), expect: "tools", until: false };
            let (spoken, results) = clients::python_bearing(&token, &gateway.url(route), mode, &[list]).await;
            assert_eq!(spoken, version, "{route}");
            assert!(!results[0]["result"]["tools"].as_array().unwrap().is_empty(), "{route}: {results:?}");
        }
    }
    // Without: the client goes where the challenge points and finds the metadata.
    let program = format!(
        "import asyncio, httpx2\n\
         from mcp.client.auth.utils import extract_resource_metadata_from_www_auth as where\n\
         async def main():\n\
         \x20   async with httpx2.AsyncClient() as http:\n\
         \x20       refused = await http.post({url:?}, json={{}})\n\
         \x20       told = await http.get(where(refused))\n\
         \x20       print(refused.status_code, told.status_code, told.json()['resource'])\n\
         asyncio.run(main())\n",
        url = gateway.url("/mcp")
    );
    let within = Duration::from_secs(120);
    let output = peers::run(&peers::python("python"), "", within, |command| {
        command.args(["-c", &program]);
    })
    .await;
    assert_eq!(output.trim(), format!("401 200 {}", gateway.url("/mcp")));
}
