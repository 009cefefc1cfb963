internal import Foundation
internal import XCTest

/// What the tests run under the command.
enum Fixtures {
    /// Skips where the libraries were not built; Scripts/tools builds them.
    static func needLibraries() throws {
        guard ProcessInfo.processInfo.environment["FORKGUARD_LIBRARY_PATH"] != nil else {
            throw XCTSkip("FORKGUARD_LIBRARY_PATH is not set: Scripts/tools builds the libraries and sets it")
        }
    }

    /// Where a library is, as the command finds it.
    static func library(_ name: String) -> String? {
        let directories = (ProcessInfo.processInfo.environment["FORKGUARD_LIBRARY_PATH"] ?? "").split(separator: ":")
        return directories.map { "\($0)/\(name)" }.first { FileManager.default.fileExists(atPath: $0) }
    }

    /// The directory of the broken programs and their mended twins.
    static func broken() throws -> URL {
        guard let path = ProcessInfo.processInfo.environment["FORKGUARD_TEST_BROKEN"] else {
            throw XCTSkip("FORKGUARD_TEST_BROKEN is not set: Scripts/tools builds the programs and sets it")
        }
        return URL(fileURLWithPath: path)
    }

    /// A directory that goes away with the test.
    static func directory(_ test: XCTestCase) throws -> URL {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent("forkguard-test-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        test.addTeardownBlock { try? FileManager.default.removeItem(at: directory) }
        return directory
    }

    /// A program of Tests/programs, built into `directory`.
    static func program(_ name: String, _ directory: URL, _ options: [String] = []) throws -> String {
        let source = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("programs/\(name).c")
        let program = directory.appendingPathComponent(name + options.joined())
        let compiler = Process()
        compiler.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        compiler.arguments = ["gcc", "-g", "-O1", "-D_GNU_SOURCE", "-pthread"] + options + ["-o", program.path, source.path]
        try compiler.run()
        compiler.waitUntilExit()
        guard compiler.terminationStatus == 0 else { throw ToolProcess.Missing("\(name).c does not compile") }
        return program.path
    }

    static func file(_ name: String, _ text: String, mode: Int, _ directory: URL) throws -> String {
        let file = directory.appendingPathComponent(name)
        try Data(text.utf8).write(to: file)
        try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: file.path)
        return file.path
    }
}
