import Foundation
import XCTest

/// What `Scripts/test` builds for the tests of hosts that are not written in Swift. A test that does not find its file is skipped.
enum Hosts {
    /// `Examples/daemon`.
    static func daemon() throws -> String { try file("FORKGUARD_TEST_DAEMON") }
    /// The same, compiled with `-DUNGUARDED`.
    static func unguardedDaemon() throws -> String { try file("FORKGUARD_TEST_DAEMON_UNGUARDED") }
    /// The product HostedRedis of `Examples`.
    static func hostedLibrary() throws -> String { try file("FORKGUARD_TEST_HOSTED_LIBRARY") }
    /// HostedRedisUnguarded.
    static func unguardedHostedLibrary() throws -> String { try file("FORKGUARD_TEST_HOSTED_LIBRARY_UNGUARDED") }

    /// Where the Python programs are.
    static let programs = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("Examples/foreign-host")

    /// A program on the path, or where Debian has it.
    static func program(_ name: String) throws -> String {
        let path = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":") + ["/usr/bin"]
        guard let found = path.map({ "\($0)/\(name)" }).first(where: FileManager.default.isExecutableFile) else {
            throw XCTSkip("there is no \(name): run Scripts/test")
        }
        return found
    }

    private static func file(_ variable: String) throws -> String {
        guard let path = ProcessInfo.processInfo.environment[variable] else { throw XCTSkip("\(variable) is not set: run Scripts/test") }
        guard FileManager.default.isReadableFile(atPath: path) else { throw Missing(description: "\(variable): there is no '\(path)'") }
        return path
    }

    private struct Missing: Error, CustomStringConvertible { let description: String }
}
