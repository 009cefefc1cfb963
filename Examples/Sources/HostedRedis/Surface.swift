internal import Glibc

// What a host calls that knows nothing of Swift. Strings end with a NUL. Each call returns a code, 0 for success;
// `hosted_redis_message` says in words what went wrong. Any thread, any side of a fork, whoever made it.

/// What the calls return.
enum Code: Int32 {
    case done = 0
    case missing = 1
    case refusedByServer = 2
    case noAnswer = 3
    case refusedAfterFork = 4
    case badArgument = 5
}

/// Opens a client with `refreshers` threads (0 to 64) that ask the server all the time, with a pause in between. `handle` is for the
/// other calls.
@_cdecl("hosted_redis_open")
public func open(
    _ host: UnsafePointer<CChar>?, _ port: Int32, _ refreshers: Int32, _ pauseMicroseconds: UInt32,
    _ handle: UnsafeMutablePointer<UnsafeMutableRawPointer?>?
) -> Int32 {
    coded {
        guard let handle, let host, let port = UInt16(exactly: port), port != 0, 0...64 ~= refreshers else { throw BadArgument() }
        let backend = try Backend(host: String(cString: host), port: port, refreshers: Int(refreshers), pause: pauseMicroseconds)
        handle.pointee = Unmanaged.passRetained(backend).toOpaque()
        return .done
    }
}

/// Copies the value of a key to `buffer`, with a NUL. One that does not fit with its NUL, or does not exist, is an error.
@_cdecl("hosted_redis_get")
public func get(
    _ handle: UnsafeMutableRawPointer?, _ key: UnsafePointer<CChar>?, _ buffer: UnsafeMutablePointer<CChar>?, _ capacity: Int
) -> Int32 {
    coded {
        try copy(try backend(handle).get(text(key)), to: buffer, capacity)
    }
}

/// The same, of what a refresher saw last in this process or, before the fork, in its parent.
@_cdecl("hosted_redis_recent")
public func recent(
    _ handle: UnsafeMutableRawPointer?, _ key: UnsafePointer<CChar>?, _ buffer: UnsafeMutablePointer<CChar>?, _ capacity: Int
) -> Int32 {
    coded {
        try copy(try backend(handle).recent(text(key)), to: buffer, capacity)
    }
}

/// Sets a key.
@_cdecl("hosted_redis_set")
public func set(_ handle: UnsafeMutableRawPointer?, _ key: UnsafePointer<CChar>?, _ value: UnsafePointer<CChar>?) -> Int32 {
    coded {
        try backend(handle).set(text(key), text(value))
        return .done
    }
}

/// Adds 1 to a key; `value` is the new one.
@_cdecl("hosted_redis_incr")
public func increment(_ handle: UnsafeMutableRawPointer?, _ key: UnsafePointer<CChar>?, _ value: UnsafeMutablePointer<Int64>?) -> Int32 {
    coded {
        guard let value else { throw BadArgument() }
        value.pointee = try backend(handle).increment(text(key))
        return .done
    }
}

/// How many answers the refreshers have had in this process, and how many of them were somebody else's, or errors.
@_cdecl("hosted_redis_counts")
public func counts(_ handle: UnsafeMutableRawPointer?, _ right: UnsafeMutablePointer<Int64>?, _ wrong: UnsafeMutablePointer<Int64>?)
    -> Int32
{
    coded {
        guard let right, let wrong else { throw BadArgument() }
        (right.pointee, wrong.pointee) = try backend(handle).counts
        return .done
    }
}

/// Ends the threads and closes the connections. No other call may be under way, and none may follow.
@_cdecl("hosted_redis_close")
public func close(_ handle: UnsafeMutableRawPointer?) -> Int32 {
    coded {
        try backend(handle).close()
        Unmanaged<Backend>.fromOpaque(handle.unsafelyUnwrapped).release()
        return .done
    }
}

/// What went wrong in the last call of this thread that failed. Lives until the next one that does.
@_cdecl("hosted_redis_message")
public func message() -> UnsafePointer<CChar> { LastMessage.ofThisThread }

// ---- how ----

private struct BadArgument: Error, CustomStringConvertible {
    var description: String { "an argument is missing or out of range" }
}

private func coded(_ body: () throws -> Code) -> Int32 {
    do {
        return try body().rawValue
    } catch {
        LastMessage.set("\(error)")
        return (error is BadArgument ? Code.badArgument : Backend.code(of: error)).rawValue
    }
}

private func backend(_ handle: UnsafeMutableRawPointer?) throws -> Backend {
    guard let handle else { throw BadArgument() }
    return Unmanaged<Backend>.fromOpaque(handle).takeUnretainedValue()
}

private func text(_ pointer: UnsafePointer<CChar>?) throws -> String {
    guard let pointer else { throw BadArgument() }
    return String(cString: pointer)
}

private func copy(_ value: String?, to buffer: UnsafeMutablePointer<CChar>?, _ capacity: Int) throws -> Code {
    guard let value else {
        LastMessage.set("no such key")
        return .missing
    }
    let bytes = value.utf8CString
    guard let buffer, bytes.count <= capacity else { throw BadArgument() }
    bytes.withUnsafeBufferPointer { buffer.update(from: $0.baseAddress.unsafelyUnwrapped, count: $0.count) }
    return .done
}
