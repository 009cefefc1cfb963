internal import CInspect
internal import Glibc

/// A process's end of the socket. Closed when it goes away.
final class AuditConnection {
    let descriptor: Int32
    /// The process that connected, as the kernel says; 0 where it cannot tell.
    let process: Int32

    init?(acceptedFrom listening: Int32) {
        var process: Int32 = 0
        descriptor = inspect_accept(listening, &process)
        self.process = process
        if descriptor < 0 { return nil }
    }

    deinit { close(descriptor) }

    enum Received {
        case packet([UInt8])
        case nothing
        case end
    }

    func receive() -> Received {
        let room = 65536
        var length = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: room) { buffer, count in
            length = recv(descriptor, buffer.baseAddress, room, Int32(MSG_DONTWAIT))
            count = max(0, length)
        }
        if length > 0 { return .packet(bytes) }
        return length < 0 && (errno == EAGAIN || errno == EINTR) ? .nothing : .end
    }

    /// What a process that prepares a fork waits for.
    func sendGo() {
        let answer = Array(#"{"go":true}"#.utf8)
        send(descriptor, answer, answer.count, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
    }
}
