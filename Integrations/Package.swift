// swift-tools-version: 6.1
import PackageDescription

// ForkGuard beside other packages' locks. A package of its own, because the root package depends on nothing.
let package = Package(
    name: "Integrations",
    dependencies: [
        .package(name: "ForkGuard", path: "../"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
    ],
    targets: [
        .testTarget(
            name: "NIOLockTests",
            dependencies: [
                .product(name: "ForkGuard", package: "ForkGuard"),
                .product(name: "ForkGuardTesting", package: "ForkGuard"),
                .product(name: "NIOConcurrencyHelpers", package: "swift-nio"),
            ]
        )
    ],
    swiftLanguageModes: [.v6]
)
