//! The code of devices under wasmtime: the module of `gloaming-parity`, which the assets bring.

use anyhow::{Context as _, Result, anyhow, bail};
use gloaming_http::Assets;
use wasmtime::{Config, Engine, Instance, Module, OptLevel, Store};

/// What the assets call it.
const NAME: &str = "parity/parity.wasm";

/// The module, compiled.
pub struct Wasm(Module);

fn ours(error: wasmtime::Error) -> anyhow::Error {
    anyhow!("{error:#}")
}

impl Wasm {
    /// Compiles the assets' module, which takes some seconds: it holds all of tract.
    ///
    /// # Errors
    /// When it is not there, or imports something.
    pub fn of(assets: &Assets) -> Result<Self> {
        let bytes =
            assets.bytes(NAME).with_context(|| format!("the assets lack {NAME}; run `cargo xtask build` again"))?;
        let mut config = Config::new();
        // It scores some hundred rows and ends: what compiling saves is more than what running costs, and the numbers are the same.
        config.cranelift_opt_level(OptLevel::None);
        let engine = Engine::new(&config).map_err(ours)?;
        let module = Module::new(&engine, bytes).map_err(ours)?;
        if let Some(import) = module.imports().next() {
            bail!("{NAME} imports `{}`: it must import nothing", import.name());
        }
        Ok(Self(module))
    }

    /// Asks an export, in an instance of its own.
    fn ask(&self, export: &str, asked: &[u8]) -> Result<Vec<u8>> {
        let mut store = Store::new(self.0.engine(), ());
        let instance = Instance::new(&mut store, &self.0, &[]).map_err(ours)?;
        let memory = instance.get_memory(&mut store, "memory").context("it has no memory")?;
        let room = instance.get_typed_func::<u32, u32>(&mut store, "room").map_err(ours)?;
        let answer = instance.get_typed_func::<(u32, u32), u64>(&mut store, export).map_err(ours)?;
        let length = u32::try_from(asked.len()).context("more than a 32-bit memory holds")?;
        let at = room.call(&mut store, length).map_err(ours)?;
        memory.write(&mut store, at as usize, asked).context("beyond its memory")?;
        let place = answer.call(&mut store, (at, length)).map_err(ours)?;
        let (start, length) = ((place >> 32) as usize, (place & 0xffff_ffff) as usize);
        let found = memory.data(&store).get(start..).and_then(|found| found.get(..length));
        Ok(found.context("an answer beyond its memory")?.to_vec())
    }

    /// Features of a recorded stream: CBOR `[config, [event…]]` in, their bytes out; nothing when it is no recording.
    ///
    /// # Errors
    /// When the module ends on it.
    pub fn features(&self, recording: &[u8]) -> Result<Vec<u8>> {
        self.ask("run", recording)
    }

    /// Loads a model by both its files, proves it against its manifest, and scores rows.
    ///
    /// # Errors
    /// The first difference, or a row that the model does not take.
    pub fn scores(&self, manifest: &[u8], onnx: &[u8], rows: &[Vec<f32>]) -> Result<Vec<f32>> {
        let answer = self.ask("score", &gloaming_parity::asked(manifest, onnx, rows))?;
        gloaming_parity::answered(&answer).map_err(|why| anyhow!(why))
    }
}
