// swift-tools-version: 6.1
import PackageDescription

// CI sets FORKGUARD_WERROR: warnings are errors there, and never for those who depend on the package.
let strict = Context.environment["FORKGUARD_WERROR"] != nil

// The PostgreSQL client needs libpq, and plain `swift build` nothing: Scripts/test sets FORKGUARD_LIBPQ when it has seen to libpq.
let libpq = Context.environment["FORKGUARD_LIBPQ"] != nil

var cSettings: [CSetting] = [.define("_GNU_SOURCE", .when(platforms: [.linux]))]
if strict { cSettings.append(.unsafeFlags(["-std=c17", "-Wall", "-Wextra", "-Werror"])) }

// What is part of the library binds to itself (include/forkguard/base.h).
let libraryCSettings = cSettings + [.define("FORKGUARD_BUILDS")]

let package = Package(
    name: "ForkGuard",
    products: [
        .library(name: "CForkGuard", targets: ["CForkGuard"]),
        .library(name: "ForkGuard", targets: ["ForkGuard"]),
        .library(name: "ForkGuardTesting", targets: ["ForkGuardTesting"]),
        .library(name: "ForkGuardRuntime", targets: ["ForkGuardRuntime"]),
        .library(name: "ForkGuardProcessLocks", targets: ["ForkGuardProcessLocks"]),
        .executable(name: "forkguard-demo", targets: ["forkguard-demo"]),
        .executable(name: "forkguard-hazards", targets: ["forkguard-hazards"]),
    ],
    targets: [
        .target(
            name: "CForkGuard",
            path: ".",
            sources: ["Sources/CForkGuard"],
            publicHeadersPath: "include",
            cSettings: libraryCSettings + [.headerSearchPath("Sources/CForkGuard")]
        ),
        .target(name: "ForkGuard", dependencies: ["CForkGuard"]),
        // The ways to fork that Swift hides, and reading the stack of a child that hangs.
        .target(name: "CForkGuardTesting", cSettings: cSettings),
        .target(name: "ForkGuardTesting", dependencies: ["ForkGuard", "CForkGuardTesting"]),
        .target(name: "ForkGuardRuntime", dependencies: ["CForkGuard"], cSettings: libraryCSettings),
        .target(name: "ForkGuardProcessLocks", dependencies: ["ForkGuardRuntime"], cSettings: libraryCSettings),
        .executableTarget(name: "forkguard-demo", dependencies: ["ForkGuard"]),
        .executableTarget(
            name: "forkguard-hazards", dependencies: ["CForkGuardTesting", "ForkGuard", "ForkGuardProcessLocks", "ForkGuardRuntime"],
            // Of the C++ runtime, which the Swift runtime needs anyway, one row calls two functions.
            linkerSettings: [.linkedLibrary("stdc++", .when(platforms: [.linux]))]),
        // What cannot be tried inside a test runner: a process of its own for each scenario.
        .executableTarget(name: "forkguard-probe", dependencies: ["CForkGuard"], path: "Tests/forkguard-probe", cSettings: cSettings),
        // Forks with bodies that suspend, and forks of a main program that does: the test runner has used Swift concurrency.
        .executableTarget(
            name: "forkguard-async-probe", dependencies: ["ForkGuard", "ForkGuardProcessLocks", "ForkGuardRuntime"],
            path: "Tests/forkguard-async-probe"),
        .executableTarget(
            name: "forkguard-async-main-probe", dependencies: ["ForkGuard", "ForkGuardProcessLocks", "ForkGuardRuntime"],
            path: "Tests/forkguard-async-main-probe"),
        .executableTarget(
            name: "forkguard-loop-probe", dependencies: ["ForkGuard", "ForkGuardProcessLocks", "ForkGuardRuntime"],
            path: "Tests/forkguard-loop-probe"),
        // What ForkGuardRuntime does to the process that it is linked into: the test runner is not to be that process.
        .executableTarget(
            name: "forkguard-runtime-probe", dependencies: ["CForkGuard", "ForkGuard", "ForkGuardProcessLocks", "ForkGuardRuntime"],
            path: "Tests/forkguard-runtime-probe", cSettings: cSettings),
        // Scripts/soak runs it.
        .executableTarget(
            name: "forkguard-soak", dependencies: ["CForkGuard", "CForkGuardTesting", "ForkGuard", "ForkGuardTesting"],
            path: "Tests/forkguard-soak"),
        // They run executables that have the cures in them, and do not depend on these: SwiftPM links what a test target depends on, executables too, into the one
        // test bundle. `swift test` builds all executables anyway.
        .testTarget(name: "ForkGuardHazardsTests"),
        .testTarget(name: "ForkGuardRuntimeTests"),
        // They run programs with libforkguard-preload.so, which CMake builds.
        .testTarget(name: "PreloadTests"),
        .testTarget(name: "CForkGuardTests", dependencies: ["forkguard-probe"]),
        .testTarget(name: "ForkGuardTests", dependencies: ["CForkGuard", "CForkGuardTesting", "ForkGuard", "ForkGuardTesting"]),
        .testTarget(name: "ForkGuardTestingTests", dependencies: ["ForkGuard", "ForkGuardTesting"]),
        .testTarget(name: "ForkGuardDemoTests", dependencies: ["forkguard-demo"]),
        // The clients of Examples/, for the scenarios.
        .target(name: "Wire", dependencies: ["ForkGuard"], path: "Examples/Sources/Wire"),
        .target(name: "RedisClient", dependencies: ["ForkGuard", "Wire"], path: "Examples/Sources/RedisClient"),
        .target(name: "HTTPClient", dependencies: ["ForkGuard", "Wire"], path: "Examples/Sources/HTTPClient"),
        .target(name: "MemcachedClient", dependencies: ["ForkGuard", "Wire"], path: "Examples/Sources/MemcachedClient"),
        .target(name: "FileLock", dependencies: ["ForkGuard"], path: "Examples/Sources/FileLock"),
        .systemLibrary(name: "CEpoll", path: "Examples/Sources/CEpoll"),
        .target(name: "EventLoop", dependencies: ["CEpoll", "ForkGuard"], path: "Examples/Sources/EventLoop"),
        // Its test runs it: see the other executables that have the cures in them.
        .executableTarget(
            name: "preforking-server", dependencies: ["ForkGuard", "ForkGuardRuntime", "RedisClient", "Wire"],
            path: "Examples/Sources/preforking-server"),
        .testTarget(
            name: "ScenarioTests",
            dependencies: [
                "CEpoll", "CForkGuard", "EventLoop", "FileLock", "ForkGuard", "ForkGuardTesting", "HTTPClient", "MemcachedClient",
                "RedisClient",
                "Wire",
            ] + (libpq ? ["CLibPQ", "PostgresClient"] : [])),
    ],
    swiftLanguageModes: [.v6]
)

if libpq {
    package.targets += [
        .systemLibrary(name: "CLibPQ", path: "Examples/Sources/CLibPQ", pkgConfig: "libpq", providers: [.apt(["libpq-dev"])]),
        .target(name: "PostgresClient", dependencies: ["CLibPQ", "ForkGuard", "Wire"], path: "Examples/Sources/PostgresClient"),
    ]
}

let cTargets = [
    "CEpoll", "CForkGuard", "CForkGuardTesting", "CLibPQ", "ForkGuardProcessLocks", "ForkGuardRuntime", "forkguard-probe",
    "forkguard-runtime-probe",
]
for target in package.targets where !cTargets.contains(target.name) {
    var settings: [SwiftSetting] = [
        .enableUpcomingFeature("ExistentialAny"),
        .enableUpcomingFeature("InternalImportsByDefault"),
        .enableUpcomingFeature("MemberImportVisibility"),
    ]
    if strict { settings.append(.unsafeFlags(["-warnings-as-errors"])) }
    if libpq && target.name == "ScenarioTests" { settings.append(.define("LIBPQ")) }
    target.swiftSettings = settings
}
