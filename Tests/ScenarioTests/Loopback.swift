import Glibc
import Wire

/// Sockets on 127.0.0.1 by their numbers, as one has them who knows nothing of tokens.
enum Loopback {
    /// Connects a socket to a port; what connect(2) returns.
    static func connect(_ number: Int32, to port: UInt16) -> Int32 {
        withAddress(port) { address, length in Glibc.connect(number, address, length.pointee) }
    }

    /// Binds a socket to a port, and returns that. 0 is any free one.
    static func bind(_ number: Int32, to port: UInt16 = 0) throws -> UInt16 {
        try withAddress(port) { address, length in
            guard Glibc.bind(number, address, length.pointee) == 0, getsockname(number, address, length) == 0 else {
                throw WireError.system("bind", errno: errno)
            }
            return address.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { UInt16(bigEndian: $0.pointee.sin_port) }
        }
    }

    /// A socket that listens on any free port.
    static func listen() throws -> (number: Int32, port: UInt16) {
        let number = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        let port = try bind(number)
        guard Glibc.listen(number, 128) == 0 else { throw WireError.system("listen", errno: errno) }
        return (number, port)
    }

    /// A port on which nobody listens.
    static func unusedPort() throws -> UInt16 {
        let (number, port) = try listen()
        close(number)
        return port
    }

    private static func withAddress<Result>(
        _ port: UInt16, _ body: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) throws -> Result
    ) rethrows -> Result {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = in_addr_t(0x7f00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        return try withUnsafeMutablePointer(to: &address) {
            try $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { try body($0, &length) }
        }
    }
}
