internal import CInspect
internal import Glibc

/// Runs CMD with the audit library in it, and listens until it ends.
final class Auditor {
    private let audit = Audit()
    private let program: Program
    private let command: [String]
    private let directory: String
    private let listening: Int32
    private let signals: Int32
    private let process: Int32
    private var connections: [AuditConnection] = []
    private let started = Clock.nanoseconds

    init(_ program: Program, _ command: [String], library: String, environment: Environment) throws {
        self.program = program
        self.command = command
        var template = Array("\(environment["TMPDIR"] ?? "/tmp")/forkguard-audit-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else {
            throw Failure(
                "cannot make a directory for the socket: \(template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }): "
                    + String(cString: strerror(errno)))
        }
        directory = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
        let socket = directory + "/socket"
        do {
            // Who gave up its user's rights finds the socket, too; nobody else can guess the name.
            chmod(directory, 0o711)
            listening = inspect_listen(socket)
            guard listening >= 0 else { throw Failure("cannot listen at \(socket): \(String(cString: strerror(errno)))") }
            var environment = environment
            try environment.preload(library)
            environment["FORKGUARD_AUDIT"] = socket
            // It would have libdw ask servers for debug information, while CMD waits.
            unsetenv("DEBUGINFOD_URLS")
            signals = inspect_block_signals()
            guard signals >= 0 else { throw Failure("cannot take signals: \(String(cString: strerror(errno)))") }
            var process: Int32 = 0
            let error = withCStrings(program.arguments) { arguments in
                withCStrings(environment.entries) { inspect_start(program.executable, arguments, $0, &process) }
            }
            guard error == 0 else {
                throw Failure("\(program.path): \(String(cString: strerror(error)))", status: error == ENOENT ? 127 : 126)
            }
            self.process = process
            inspect_raise_descriptor_limit()
        } catch {
            unlink(socket)
            rmdir(directory)
            throw error
        }
    }

    /// Until CMD has ended, or is ended after `seconds`.
    func watch(seconds: Double?) -> AuditReport {
        defer {
            unlink(directory + "/socket")
            rmdir(directory)
        }
        let deadline = seconds.map { started + UInt64($0 * 1e9) } ?? .max
        var nextLook = started
        var end: (status: Int32, signal: Int32)?
        while end == nil && Clock.nanoseconds < deadline {
            listen(milliseconds: 100, until: deadline)
            let now = Clock.nanoseconds
            if now >= nextLook {
                audit.lookAtChildren()
                nextLook = now + 250_000_000
            }
            end = reap()
        }
        // What was sent before CMD ended is there to be read.
        while listen(milliseconds: 0, until: .max) {}
        audit.conclude()
        let seconds = Double(Clock.nanoseconds - started) / 1e9
        var report = AuditReport(audit, command: command, process: process, seconds: seconds, timedOut: end == nil)
        if let end {
            report.exitStatus = end.signal == 0 ? end.status : nil
            report.signal = end.signal == 0 ? nil : end.signal
        } else {
            stop()
        }
        return report
    }

    private func reap() -> (status: Int32, signal: Int32)? {
        var status: Int32 = 0
        var signal: Int32 = 0
        return inspect_reap(process, &status, &signal) ? (status, signal) : nil
    }

    /// Ends CMD and those of its processes that reported: asks, and two seconds later asks no more.
    private func stop() {
        for (signal, seconds) in [(SIGTERM, UInt64(2)), (SIGKILL, 5)] {
            let deadline = Clock.nanoseconds + seconds * 1_000_000_000
            // Not reaped yet, so the number is CMD's.
            var isThere = true
            kill(process, signal)
            var others = audit.signalAll(signal)
            while (isThere || others) && Clock.nanoseconds < deadline {
                listen(milliseconds: 20, until: deadline)
                if isThere { isThere = reap() == nil }
                others = audit.signalAll(0)
            }
            if !isThere && !others { return }
        }
    }

    /// Waits for packets, new processes and signals, and takes what there is. True when there was a packet.
    @discardableResult
    private func listen(milliseconds: Int32, until deadline: UInt64) -> Bool {
        let late = inspect_threads_release_late() > 0
        var descriptors = [listening, signals].map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
        descriptors += connections.map { pollfd(fd: $0.descriptor, events: Int16(POLLIN), revents: 0) }
        let left = deadline == .max ? UInt64(milliseconds) : (max(deadline, Clock.nanoseconds) - Clock.nanoseconds) / 1_000_000 + 1
        // Threads that did not stop in time stop at some time, and nothing tells but asking.
        guard poll(&descriptors, nfds_t(descriptors.count), Int32(min(UInt64(late ? min(5, milliseconds) : milliseconds), left))) > 0 else {
            return false
        }
        var any = false
        if descriptors[1].revents != 0 { handSignalsOn() }
        var ended: Set<Int32> = []
        for (connection, descriptor) in zip(connections, descriptors.dropFirst(2)) where descriptor.revents != 0 {
            any = take(connection, &ended) || any
        }
        if !ended.isEmpty { connections.removeAll { ended.contains($0.descriptor) } }
        while descriptors[0].revents != 0, let connection = AuditConnection(acceptedFrom: listening) {
            connections.append(connection)
            any = true
        }
        return any
    }

    /// Some of its packets, so that nobody has to wait for one that talks all the time.
    private func take(_ connection: AuditConnection, _ ended: inout Set<Int32>) -> Bool {
        for _ in 0..<32 {
            switch connection.receive() {
            case .packet(let packet): audit.take(packet, from: connection.process, go: connection.sendGo)
            case .nothing: return true
            case .end:
                ended.insert(connection.descriptor)
                audit.leave(connection.process)
                return true
            }
        }
        return true
    }

    private func handSignalsOn() {
        var byTerminal = false
        while case let signal = inspect_next_signal(signals, &byTerminal), signal != 0 {
            // CMD is in the terminal's foreground, as we are, and has had those already.
            if signal != SIGCHLD && !byTerminal { kill(process, signal) }
        }
    }
}
