internal import CInspect
internal import Glibc

/// CMD: the file that its name stands for, as execvp(3) finds it, and whether a preloaded library gets into it.
struct Program {
    let path: String
    /// Its own, with the name first. Those of the shell where the file is neither ELF nor has a `#!`, as execvp does.
    let arguments: [String]
    /// Why ld.so does not load our library into it; nil where it does.
    let unreachable: Unreachable?

    enum Unreachable: Equatable {
        /// There is no ld.so in it, or one that takes no heed of us.
        case ignoresPreload(String)
        /// Our library would harm it.
        case refusesPreload(String)
    }

    init(_ command: [String], path searchPath: String?) throws {
        guard let name = command.first, !name.isEmpty else { throw Failure("CMD is empty", status: 127) }
        let file = try Self.find(name, searchPath: searchPath ?? "/bin:/usr/bin")
        path = file
        switch try Self.kind(file, depth: 0) {
        case .shell:
            // What execvp does with such a file.
            arguments = ["/bin/sh", file] + command.dropFirst()
            unreachable = nil
        case .known(let unreachable):
            arguments = command
            self.unreachable = unreachable
        }
    }

    /// What to hand to execve(2): the program, or the shell that reads it.
    var executable: String { arguments.first == "/bin/sh" && arguments.dropFirst().first == path ? "/bin/sh" : path }

    private static func find(_ name: String, searchPath: String) throws -> String {
        if name.contains("/") {
            try check(name, name)
            return name
        }
        var denied: Failure?
        for directory in searchPath.split(separator: ":", omittingEmptySubsequences: false) {
            let candidate = directory.isEmpty ? name : "\(directory)/\(name)"
            do {
                try check(candidate, candidate)
                return candidate
            } catch let failure as Failure {
                if failure.status == 126 && denied == nil { denied = failure }
            }
        }
        throw denied ?? Failure("\(name): no such command in PATH", status: 127)
    }

    private static func check(_ path: String, _ name: String) throws {
        var status = stat()
        guard stat(path, &status) == 0 else {
            throw Failure("\(name): \(String(cString: strerror(errno)))", status: errno == EACCES || errno == ELOOP ? 126 : 127)
        }
        switch status.st_mode & S_IFMT {
        case S_IFDIR: throw Failure("\(name): is a directory", status: 126)
        case S_IFREG: break
        default: throw Failure("\(name): is not a regular file", status: 126)
        }
        // faccessat with the effective ids, as execve looks.
        guard faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) == 0 else {
            throw Failure("\(name): not executable: \(String(cString: strerror(errno)))", status: 126)
        }
    }

    private enum Kind {
        case shell
        case known(Unreachable?)
    }

    private static func kind(_ path: String, depth: Int) throws -> Kind {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        // A file that may be executed, but not read: only the kernel knows.
        guard descriptor >= 0 else { return .known(.ignoresPreload("it cannot be read: \(String(cString: strerror(errno)))")) }
        defer { close(descriptor) }
        var start = [UInt8](repeating: 0, count: 256)
        start.removeLast(start.count - max(0, read(descriptor, &start, start.count)))

        if start.starts(with: [0x7f, 0x45, 0x4c, 0x46]) {
            if let raised = raisedRights(descriptor, path) { return .known(.ignoresPreload(raised)) }
            return .known(ELFHeader(descriptor).unreachable)
        }
        guard start.starts(with: Array("#!".utf8)) else { return .shell }
        let line = start.dropFirst(2).prefix { $0 != 10 }
        let words = line.split(separator: 32).flatMap { $0.split(separator: 9) }
        guard let interpreter = words.first.map({ String(decoding: $0, as: UTF8.self) }) else { return .shell }
        do {
            try check(interpreter, "\(path): its interpreter \(interpreter)")
        } catch let failure as Failure {
            throw Failure(failure.description, status: 126)
        }
        guard depth < 4 else { throw Failure("\(path): too many interpreters, each a script itself", status: 126) }
        if case .known(let unreachable) = try kind(interpreter, depth: depth + 1) { return .known(unreachable) }
        return .known(nil)
    }

    /// ld.so takes no preloads from the environment of a program that gets more rights than its caller has.
    private static func raisedRights(_ descriptor: Int32, _ path: String) -> String? {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { return nil }
        if status.st_mode & S_ISUID != 0 && status.st_uid != getuid() { return "it is setuid" }
        if status.st_mode & S_ISGID != 0 && status.st_mode & S_IXGRP != 0 && status.st_gid != getgid() { return "it is setgid" }
        if getuid() != 0 && inspect_has_capabilities(descriptor) { return "it has capabilities of its own" }
        return nil
    }
}
