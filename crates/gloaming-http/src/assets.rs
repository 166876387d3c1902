//! Files that browsers are served, from a folder or from the binary itself.

use std::collections::HashMap;
use std::path::Path;
use std::{fs, io};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use gloaming_signal::hash;
use http::{HeaderMap, HeaderValue, StatusCode, header};

/// One file.
#[derive(Clone)]
pub struct Asset {
    bytes: Bytes,
    brotli: Option<Bytes>,
    media_type: &'static str,
    etag: HeaderValue,
}

/// Files by name, as `g/gloaming.js`.
#[derive(Clone, Default)]
pub struct Assets {
    files: HashMap<String, Asset>,
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "js" => "text/javascript; charset=utf-8",
        "wasm" => "application/wasm",
        "json" => "application/json",
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

impl Assets {
    /// From names and bytes; a name ending in `.br` is the packed form of the name before it.
    #[must_use]
    pub fn from_files(files: impl IntoIterator<Item = (String, Bytes)>) -> Self {
        let (mut assets, mut packed) = (Self::default(), Vec::new());
        for (name, bytes) in files {
            if let Some(plain) = name.strip_suffix(".br") {
                packed.push((plain.to_owned(), bytes));
                continue;
            }
            let tag = format!("\"{}\"", &hash::hex(&hash::sha256(&bytes))[..20]);
            let etag = HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"\""));
            let asset = Asset { bytes, brotli: None, media_type: media_type(&name), etag };
            assets.files.insert(name, asset);
        }
        for (name, bytes) in packed {
            if let Some(asset) = assets.files.get_mut(&name) {
                asset.brotli = Some(bytes);
            }
        }
        assets
    }

    /// These, with one file exchanged or added.
    #[must_use]
    pub fn with(&self, name: &str, bytes: Bytes) -> Self {
        let mut assets = self.clone();
        assets.files.extend(Self::from_files([(name.to_owned(), bytes)]).files);
        assets
    }

    /// Reads a folder as `cargo xtask build` leaves it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn from_folder(folder: &Path) -> io::Result<Self> {
        let mut files = Vec::new();
        read(folder, "", &mut files)?;
        Ok(Self::from_files(files))
    }

    /// A file's bytes.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Option<&Bytes> {
        self.files.get(name).map(|asset| &asset.bytes)
    }

    /// Names of all files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Answers a request for a file: packed when the browser takes it, `304` when it has it.
    #[must_use]
    pub fn respond(&self, name: &str, request: &HeaderMap) -> Response {
        let mut response = Response::new(Body::empty());
        let Some(asset) = self.files.get(name) else {
            *response.status_mut() = StatusCode::NOT_FOUND;
            return response;
        };
        let headers = response.headers_mut();
        headers.insert(header::ETAG, asset.etag.clone());
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        if request.get(header::IF_NONE_MATCH) == Some(&asset.etag) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.media_type));
        let takes = request
            .get(header::ACCEPT_ENCODING)
            .and_then(|v| v.to_str().ok())
            .is_some_and(|v| v.split(',').any(|coding| coding.split(';').next().unwrap_or_default().trim() == "br"));
        let bytes = match &asset.brotli {
            Some(packed) if takes => {
                headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("br"));
                packed.clone()
            }
            _ => asset.bytes.clone(),
        };
        *response.body_mut() = Body::from(bytes);
        response
    }
}

fn read(folder: &Path, prefix: &str, files: &mut Vec<(String, Bytes)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            read(&entry.path(), &format!("{name}/"), files)?;
        } else {
            files.push((name, Bytes::from(fs::read(entry.path())?)));
        }
    }
    Ok(())
}
