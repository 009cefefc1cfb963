// swift-tools-version: 6.1
import PackageDescription

let package = Package(
    name: "Benchmarks",
    dependencies: [
        .package(name: "ForkGuard", path: "../"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
    ],
    targets: [
        // Threads that hammer, and what Swift cannot say: peers that are C, the scheduler's slice.
        .target(name: "CBench"),
        // Processes that hold a load and fork when they are told to: one with ForkGuard in it, one without.
        .target(name: "CForkLoad"),
        .executableTarget(name: "fork-load", dependencies: ["CForkLoad", .product(name: "CForkGuard", package: "ForkGuard")]),
        .executableTarget(name: "fork-load-bare", dependencies: ["CForkLoad"]),
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
        // It starts the others, and does not depend on them: it would be linked with what they are linked with, the cures among them, which make
        // the locks slower that ours are compared with.
        .executableTarget(
            name: "forkguard-bench",
            dependencies: [
                "CBench",
                "CForkLoad",
                .product(name: "CForkGuard", package: "ForkGuard"),
                .product(name: "ForkGuard", package: "ForkGuard"),
                // For BoringSSL's generation, which CBench declares.
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "NIOConcurrencyHelpers", package: "swift-nio"),
            ]
        ),
    ],
    swiftLanguageModes: [.v6]
)
