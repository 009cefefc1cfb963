// swift-tools-version: 6.1
import PackageDescription

let package = Package(
    name: "Benchmarks",
    dependencies: [
        .package(name: "ForkGuard", path: "../"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
    ],
    targets: [
        // fork(2), which Swift hides, page-fault counts, and what a bare process forks like.
        .target(name: "CBench"),
        .executableTarget(
            name: "forkguard-bench",
            dependencies: [
                "CBench",
                .product(name: "ForkGuard", package: "ForkGuard"),
                .product(name: "NIOConcurrencyHelpers", package: "swift-nio"),
            ]
        ),
    ],
    swiftLanguageModes: [.v6]
)
