using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "main", worker = .edge),
    (name = "disk", disk = (path = "state", writable = true)),
  ],
  sockets = [(name = "http", address = "127.0.0.1:8797", http = (), service = "main")],
);

const edge :Workerd.Worker = (
  # Workers compile nothing while they run: the component's core module is given to them compiled.
  modules = [
    (name = "worker.mjs", esModule = embed "worker.mjs"),
    (name = "component.js", esModule = embed "component/worker.component.js"),
    (name = "core.wasm", wasm = embed "component/worker.component.core.wasm"),
  ],
  compatibilityDate = "2026-11-01",
  durableObjectNamespaces = [(className = "Windows", uniqueKey = "gloaming-windows", enableSql = true)],
  durableObjectStorage = (localDisk = "disk"),
  bindings = [(name = "WINDOWS", durableObjectNamespace = "Windows")],
);
