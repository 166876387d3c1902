//! JavaScript without what a browser does not read: parse, shorten, print, with `oxc`.
//!
//! The sources under www/ are what people read and edit; this removes comments and white space and
//! shortens local names, no more than that.

use anyhow::{Result, bail};
use oxc::allocator::Allocator;
use oxc::codegen::{Codegen, CodegenOptions, CommentOptions};
use oxc::mangler::MangleOptions;
use oxc::minifier::{CompressOptions, Minifier, MinifierOptions};
use oxc::parser::Parser;
use oxc::span::SourceType;

/// Minifies a script (`module`: an ES module).
pub(crate) fn minify(name: &str, source: &str, module: bool) -> Result<String> {
    let allocator = Allocator::default();
    let kind = if module { SourceType::mjs() } else { SourceType::cjs() };
    let parsed = Parser::new(&allocator, source, kind).parse();
    if let Some(first) = parsed.diagnostics.first() {
        bail!("{name}: {first}");
    }
    let mut program = parsed.program;
    let options = MinifierOptions {
        mangle: Some(MangleOptions { top_level: Some(module), ..MangleOptions::default() }),
        mangle_properties: None,
        compress: Some(CompressOptions::smallest()),
    };
    let minified = Minifier::new(options).minify(&allocator, &mut program);
    let options = CodegenOptions { minify: true, comments: CommentOptions::disabled(), ..CodegenOptions::default() };
    Ok(Codegen::new().with_options(options).with_scoping(minified.scoping).build(&program).code.to_string())
}
