import Foundation

/// Writes to the terminal by `write(2)`: stdio is one of the hazards.
enum Console {
    static func output(_ text: String) { put(text, STDOUT_FILENO) }

    static func error(_ text: String) { put(text, STDERR_FILENO) }

    /// Rewrites one line, on a terminal only.
    static func progress(_ text: String) {
        if isatty(STDERR_FILENO) == 1 { put("\r\(text)\u{1B}[K", STDERR_FILENO) }
    }

    static func put(_ text: String, _ descriptor: Int32) {
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
            if count < 0, errno != EINTR { return }
            rest = rest.dropFirst(max(0, count))
        }
    }
}
