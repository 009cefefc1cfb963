internal import CForkGuardTesting

/// Where a process is stuck: by gdb where there is one, otherwise from /proc.
package enum ProcessStack {
    package static func read(_ pid: Int32, gdb: String = "gdb", timeout: Duration = .seconds(20)) -> String {
        let milliseconds = Int32(timeout / .milliseconds(1))
        let (byDebugger, why) = text { fgt_stack_by_gdb(pid, gdb, milliseconds, $0, $1) }
        if byDebugger.contains("#0 ") { return readable(withoutNoise(byDebugger)) }
        let reason =
            switch why {
            case 0:
                byDebugger.split(separator: "\n").last { $0.contains("ptrace") || $0.contains("ttach") }.map(String.init)
                    ?? "it shows no stack"
            default: errorText(why)
            }
        return "(without gdb: \(reason))\n\(readable(brief(pid)))"
    }

    /// From /proc only, which takes no time.
    package static func brief(_ pid: Int32) -> String {
        let (text, error) = text { fgt_stack_by_proc(pid, $0, $1) }
        return error == 0 ? text : "(no /proc: \(errorText(error)))"
    }

    private static func text(_ write: (UnsafeMutablePointer<CChar>, Int) -> Int64) -> (String, errno: Int32) {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256 * 1024) { buffer in
            guard let start = buffer.baseAddress else { return ("", 0) }
            let length = write(start, buffer.count)
            if length < 0 { return ("", Int32(-length)) }
            return (String(decoding: UnsafeRawBufferPointer(start: start, count: Int(length)), as: UTF8.self), 0)
        }
    }

    /// What gdb says besides of the stacks.
    private static func withoutNoise(_ text: String) -> String {
        let kept = text.split(separator: "\n", omittingEmptySubsequences: false).drop { !$0.hasPrefix("Thread ") }
        return kept.filter { !$0.hasPrefix("[Inferior ") && !$0.contains(": No such file or directory.") }.joined(separator: "\n")
    }

    /// Swift's symbols, readable.
    static func readable(_ text: String) -> String {
        func isSymbol(_ character: UInt8) -> Bool {
            switch character {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
            case UInt8(ascii: "_"), UInt8(ascii: "$"), UInt8(ascii: "."): true
            default: false
            }
        }
        let bytes = Array(text.utf8)
        var result: [UInt8] = []
        var at = 0
        while at < bytes.count {
            guard isSymbol(bytes[at]) else {
                result.append(bytes[at])
                at += 1
                continue
            }
            let end = bytes[at...].firstIndex { !isSymbol($0) } ?? bytes.count
            result += demangled(bytes[at..<end])
            at = end
        }
        return String(decoding: result, as: UTF8.self)
    }

    private static func demangled(_ symbol: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        guard symbol.starts(with: "$s".utf8) || symbol.starts(with: "_$s".utf8) else { return symbol }
        return withUnsafeTemporaryAllocation(of: CChar.self, capacity: 4096) { buffer in
            guard let start = buffer.baseAddress else { return symbol }
            let length = symbol.withUnsafeBytes { name in
                fgt_demangle(name.assumingMemoryBound(to: CChar.self).baseAddress.unsafelyUnwrapped, name.count, start, buffer.count)
            }
            return length < 0 ? symbol : Array(UnsafeRawBufferPointer(start: start, count: Int(length)))[...]
        }
    }
}
