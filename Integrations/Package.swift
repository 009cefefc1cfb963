// swift-tools-version: 6.1
import PackageDescription

// ForkGuard beside other packages' locks, in a foreign host, and in a static executable. A package of its own, because the root
// package depends on nothing.
let package = Package(
    name: "Integrations",
    products: [
        // What Python loads. `swift build` and `swift test` put it beside the tests.
        .library(name: "HostedRuntime", type: .dynamic, targets: ["HostedRuntime"]),
        .executable(name: "static-runtime", targets: ["static-runtime"]),
    ],
    dependencies: [
        .package(name: "ForkGuard", path: "../"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
    ],
    targets: [
        // Threads that keep the Swift runtime busy, and what a child of theirs must be able to do.
        .target(name: "RuntimeHammers"),
        .target(
            name: "HostedRuntime",
            dependencies: [
                "RuntimeHammers",
                .product(name: "ForkGuard", package: "ForkGuard"),
                .product(name: "ForkGuardProcessLocks", package: "ForkGuard"),
                .product(name: "ForkGuardRuntime", package: "ForkGuard"),
            ]
        ),
        .executableTarget(
            name: "static-runtime",
            dependencies: [
                "RuntimeHammers",
                .product(name: "ForkGuard", package: "ForkGuard"),
                .product(name: "ForkGuardProcessLocks", package: "ForkGuard"),
                .product(name: "ForkGuardRuntime", package: "ForkGuard"),
            ]
        ),
        // A C daemon with a copy of its own.
        .executableTarget(
            name: "linked-daemon", dependencies: [.product(name: "CForkGuard", package: "ForkGuard")],
            cSettings: [.define("_GNU_SOURCE", .when(platforms: [.linux]))]),
        // It runs python3, and links nothing: the test process itself stays without cures.
        .testTarget(name: "HostedTests", exclude: ["fork_around.py"]),
        .testTarget(
            name: "NIOLockTests",
            dependencies: [
                .product(name: "ForkGuard", package: "ForkGuard"),
                .product(name: "ForkGuardTesting", package: "ForkGuard"),
                .product(name: "NIOConcurrencyHelpers", package: "swift-nio"),
            ]
        ),
    ],
    swiftLanguageModes: [.v6]
)
