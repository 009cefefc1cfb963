// swift-tools-version: 6.1
import PackageDescription

let package = Package(
    name: "Benchmarks",
    dependencies: [
        .package(name: "ForkGuard", path: "../"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
    ],
    targets: [
        // fork(2), which Swift hides, page-fault counts, and threads that hammer.
        .target(name: "CBench"),
        // Processes that only fork, which differ in nothing but that one has ForkGuard in it. The benchmark starts them; it depends on
        // them so that `swift run` builds them.
        .target(name: "CIdle"),
        .executableTarget(name: "idle-bare", dependencies: ["CIdle"]),
        .executableTarget(name: "idle-linked", dependencies: ["CIdle", .product(name: "CForkGuard", package: "ForkGuard")]),
        // A process with the cures of ForkGuardRuntime in it, which the environment switches off; the benchmark starts it in both ways.
        .executableTarget(
            name: "runtime-load",
            dependencies: [
                "CBench",
                .product(name: "ForkGuard", package: "ForkGuard"),
                .product(name: "ForkGuardProcessLocks", package: "ForkGuard"),
                .product(name: "ForkGuardRuntime", package: "ForkGuard"),
            ]
        ),
        // Swift concurrency in a process and in its forked child.
        .executableTarget(
            name: "task-load",
            dependencies: [
                "CBench",
                .product(name: "ForkGuard", package: "ForkGuard"),
                .product(name: "ForkGuardRuntime", package: "ForkGuard"),
            ]
        ),
        .executableTarget(
            name: "forkguard-bench",
            dependencies: [
                "CBench",
                "CIdle",
                "idle-bare",
                "idle-linked",
                "runtime-load",
                "task-load",
                .product(name: "CForkGuard", package: "ForkGuard"),
                .product(name: "ForkGuard", package: "ForkGuard"),
                .product(name: "NIOConcurrencyHelpers", package: "swift-nio"),
            ]
        ),
    ],
    swiftLanguageModes: [.v6]
)
