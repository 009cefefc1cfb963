import CForkGuardTesting

/// Where a process is stuck: by gdb where there is one, otherwise from /proc.
enum ProcessStack {
    /// Swift's names can be pages long, and a parent can have many threads.
    private static let widest = 200
    private static let longest = 80

    static func read(_ pid: Int32) -> String {
        let byDebugger = text { fgt_stack_by_gdb(pid, "gdb", 20_000, $0, $1) }
        if byDebugger.contains("#0 ") {
            let lines = byDebugger.split(separator: "\n").drop { !$0.hasPrefix("Thread ") }
            let frames = lines.filter { $0.hasPrefix("Thread ") || $0.hasPrefix("#") }
            let shown = withoutRepetitions(frames.map { String(readable(String($0)).prefix(widest)) })
            return shown.prefix(longest).joined(separator: "\n")
        }
        return "(without gdb)\n" + text { fgt_stack_by_proc(pid, $0, $1) }
    }

    /// Without the frames of a recursion, but the first and the last.
    private static func withoutRepetitions(_ frames: [String]) -> [String] {
        func function(_ frame: String) -> Substring { frame.dropFirst(4).split(separator: "(").prefix(3).joined(separator: "(")[...] }
        return frames.enumerated().filter { index, frame in
            index == 0 || index + 1 == frames.count || function(frames[index - 1]) != function(frame)
                || function(frames[index + 1]) != function(frame)
        }.map(\.element)
    }

    private static func text(_ write: (UnsafeMutablePointer<CChar>, Int) -> Int64) -> String {
        var buffer = [CChar](repeating: 0, count: 256 * 1024)
        let length = buffer.withUnsafeMutableBufferPointer { write($0.baseAddress!, $0.count) }
        return String(decoding: buffer.prefix(max(0, Int(length))).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Swift's symbols, readable.
    private static func readable(_ line: String) -> String {
        line.split(separator: " ", omittingEmptySubsequences: false).map { word in
            guard word.hasPrefix("$s") else { return String(word) }
            var buffer = [CChar](repeating: 0, count: 4096)
            let length = fgt_demangle(String(word), word.utf8.count, &buffer, buffer.count)
            return length < 0 ? String(word) : String(decoding: buffer.prefix(Int(length)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
        }.joined(separator: " ")
    }
}
