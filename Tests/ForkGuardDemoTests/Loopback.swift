import XCTest

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

private func makeSocket() -> Int32 {
    #if canImport(Glibc)
        socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    #else
        socket(AF_INET, SOCK_STREAM, 0)
    #endif
}

private func withLoopback<Result>(
    port: UInt16, _ body: (UnsafeMutablePointer<sockaddr>, inout socklen_t) -> Result
) -> (Result, port: UInt16) {
    var address = sockaddr_in()
    address.sin_family = .init(AF_INET)
    address.sin_addr.s_addr = INADDR_LOOPBACK.bigEndian
    address.sin_port = port.bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let result = withUnsafeMutableBytes(of: &address) { body($0.baseAddress!.assumingMemoryBound(to: sockaddr.self), &length) }
    return (result, UInt16(bigEndian: address.sin_port))
}

/// A connection to a server on 127.0.0.1 that never waits longer than ten seconds.
struct LoopbackConnection {
    private let descriptor: Int32

    init(port: UInt16) throws {
        let descriptor = makeSocket()
        self.descriptor = descriptor
        var time = timeval()
        time.tv_sec = 10
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
        let (result, _) = withLoopback(port: port) { connect(descriptor, $0, $1) }
        XCTAssertEqual(result, 0, String(cString: strerror(errno)))
    }

    func send(_ bytes: [UInt8]) { XCTAssertEqual(write(descriptor, bytes, bytes.count), bytes.count) }

    /// So many bytes, or those that came before the end.
    func receive(_ count: Int) -> String {
        var received: [UInt8] = []
        var byte: UInt8 = 0
        while received.count < count, read(descriptor, &byte, 1) == 1 { received.append(byte) }
        return String(decoding: received, as: UTF8.self)
    }

    func end() { close(descriptor) }
}

enum LoopbackPort {
    /// One that nobody listens on: it was free a moment ago.
    static func unused() throws -> UInt16 {
        let descriptor = makeSocket()
        defer { close(descriptor) }
        let (result, port) = withLoopback(port: 0) { name, length in
            bind(descriptor, name, length) == 0 && getsockname(descriptor, name, &length) == 0
        }
        XCTAssert(result, String(cString: strerror(errno)))
        return port
    }
}
