// swift-tools-version: 6.1
import PackageDescription

// Clients as a user of ForkGuard writes them. A package of its own, as a user's is; the root package's scenario tests build the same sources.
let package = Package(
    name: "Examples",
    dependencies: [.package(name: "ForkGuard", path: "../")],
    targets: [
        .target(name: "Wire", dependencies: [.product(name: "ForkGuard", package: "ForkGuard")])
    ],
    swiftLanguageModes: [.v6]
)
