import Foundation

/// Pipes, and what is in them.
enum Descriptors {
    struct Failure: Error {
        let call: String
        let error: Int32
        var description: String { "\(call): \(String(cString: strerror(error)))" }
    }

    /// Neither end gets through exec.
    static func pipe() throws(Failure) -> (read: Int32, write: Int32) {
        var ends: [Int32] = [-1, -1]
        guard Foundation.pipe(&ends) == 0 else { throw Failure(call: "pipe", error: errno) }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        return (ends[0], ends[1])
    }

    /// What can be read without waiting; `nil` at the end.
    static func available(_ descriptor: Int32) -> [UInt8]? {
        var result: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            var wanted = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            guard poll(&wanted, 1, 0) > 0 else { return result }
            let count = read(descriptor, &buffer, buffer.count)
            if count == 0 { return result.isEmpty ? nil : result }
            if count < 0 {
                if errno == EINTR { continue }
                return result
            }
            result += buffer[..<count]
        }
    }
}
