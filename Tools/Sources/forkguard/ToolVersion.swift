internal import Foundation

/// What a tool says when it is asked for its version.
enum ToolVersion {
    /// The first line of its output; nil where it is not in PATH, fails, or takes longer than ten seconds.
    static func first(of tool: String, _ arguments: [String], path: String?) -> String? {
        guard let program = try? Program([tool] + arguments, path: path) else { return nil }
        let process = Process()
        process.executableURL = URL(fileURLWithPath: program.path)
        process.arguments = arguments
        let output = Pipe()
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        process.standardInput = FileHandle.nullDevice
        guard (try? process.run()) != nil else { return nil }
        let watchdog = DispatchWorkItem { process.terminate() }
        DispatchQueue.global().asyncAfter(deadline: .now() + 10, execute: watchdog)
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        watchdog.cancel()
        guard process.terminationStatus == 0 else { return nil }
        return text.split(separator: "\n").first.map(String.init)
    }
}
