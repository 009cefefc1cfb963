// swift-tools-version: 6.1
import PackageDescription

// The command `forkguard`. A package of its own, because the root package depends on nothing.

// CI sets FORKGUARD_WERROR: warnings are errors there.
let strict = Context.environment["FORKGUARD_TOOLS_WERROR"] != nil

var cSettings: [CSetting] = [.define("_GNU_SOURCE")]
if strict { cSettings.append(.unsafeFlags(["-std=c17", "-Wall", "-Wextra", "-Werror"])) }

var swiftSettings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
]
if strict { swiftSettings.append(.unsafeFlags(["-warnings-as-errors"])) }

let package = Package(
    name: "Tools",
    products: [.executable(name: "forkguard", targets: ["forkguard"])],
    dependencies: [
        .package(name: "ForkGuard", path: "../"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
    ],
    targets: [
        .systemLibrary(name: "CLibDW", pkgConfig: "libdw", providers: [.apt(["libdw-dev"])]),
        // What Swift cannot do, or only in more lines: ptrace, libdw, the first questions to the kernel.
        .target(
            name: "CInspect", dependencies: ["CLibDW"], cSettings: cSettings,
            // The C++ runtime, which the Swift runtime needs anyway, for the names of its functions.
            linkerSettings: [.linkedLibrary("stdc++")]),
        .executableTarget(
            name: "forkguard",
            dependencies: [
                "CInspect",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "ForkGuard", package: "ForkGuard"),
                .product(name: "ForkGuardProcessLocks", package: "ForkGuard"),
                .product(name: "ForkGuardRuntime", package: "ForkGuard"),
            ],
            swiftSettings: swiftSettings),
        // It runs the built executable, and links nothing: see the root package's tests of executables that have the cures in them.
        .testTarget(name: "ForkGuardToolTests", swiftSettings: swiftSettings),
    ],
    swiftLanguageModes: [.v6]
)
