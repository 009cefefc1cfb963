// swift-tools-version: 6.1
import PackageDescription

// Clients as a user of ForkGuard writes them. A package of its own, as a user's is; the root package's scenario tests build the same sources.
let forkGuard = Target.Dependency.product(name: "ForkGuard", package: "ForkGuard")

let forkGuardRuntime = Target.Dependency.product(name: "ForkGuardRuntime", package: "ForkGuard")

// What is imported is nobody's business but the library's.
let imports: [SwiftSetting] = [.enableUpcomingFeature("InternalImportsByDefault")]

let package = Package(
    name: "Examples",
    products: [
        // What a foreign host loads, Python in foreign-host/; and its twin that knows nothing of forks, for the tests.
        .library(name: "HostedRedis", type: .dynamic, targets: ["HostedRedis"]),
        .library(name: "HostedRedisUnguarded", type: .dynamic, targets: ["HostedRedisUnguarded"]),
    ],
    dependencies: [.package(name: "ForkGuard", path: "../")],
    targets: [
        .target(name: "Wire", dependencies: [forkGuard]),
        .target(name: "RedisClient", dependencies: ["Wire", forkGuard]),
        .target(name: "HTTPClient", dependencies: ["Wire", forkGuard]),
        .target(name: "MemcachedClient", dependencies: ["Wire", forkGuard]),
        .target(name: "FileLock", dependencies: [forkGuard]),
        .systemLibrary(name: "CLibPQ", pkgConfig: "libpq", providers: [.apt(["libpq-dev"]), .brew(["libpq"])]),
        .target(name: "PostgresClient", dependencies: ["CLibPQ", "Wire", forkGuard]),
        .systemLibrary(name: "CEpoll"),
        .target(name: "EventLoop", dependencies: ["CEpoll", forkGuard]),
        // Each client in a process that forks: `swift run forking-clients redis HOST:PORT`.
        .executableTarget(
            name: "forking-clients",
            dependencies: ["EventLoop", "HTTPClient", "MemcachedClient", "PostgresClient", "RedisClient", "Wire", forkGuard]),
        // A server whose parent and workers use async code: `swift run preforking-server --redis HOST:PORT`.
        .executableTarget(
            name: "preforking-server",
            dependencies: ["RedisClient", "Wire", forkGuard, forkGuardRuntime]),
        .target(
            name: "HostedRedis", dependencies: ["RedisClient", "Wire", forkGuard, forkGuardRuntime], swiftSettings: imports),
        .target(name: "HostedRedisUnguarded", swiftSettings: imports),
        // Requests a second through a pool and through one locked connection: `swift run -c release pool-or-lock HOST:PORT`.
        .executableTarget(name: "pool-or-lock", dependencies: ["MemcachedClient", "Wire"]),
    ],
    swiftLanguageModes: [.v6]
)
