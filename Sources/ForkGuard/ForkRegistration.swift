internal import CForkGuard

/// What registering returns. Letting go of it changes nothing; ``cancel()`` does.
public struct ForkRegistration: Sendable, Hashable {
    let id: UInt64

    /// Ends the registration, from the next fork on. Cancelling twice, or in a child what the parent registered, does no harm. Any thread, also in hooks.
    public func cancel() { _ = forkguard_unregister(id) }
}

/// What the C registry keeps for a ``ForkSafe`` resource: a weak reference, so the registration keeps nobody alive.
final class WeakResource {
    private weak var resource: (any ForkSafe)?

    init(_ resource: any ForkSafe) { self.resource = resource }

    func register(name: String, discard: ForkDiscard) -> ForkRegistration {
        var flags: UInt32 = 0
        if discard == .onFirstUse { flags |= UInt32(FORKGUARD_ON_FIRST_USE.rawValue) }
        return registerContext(self, name: name, flags: flags) { resource in
            resource.prepare = {
                WeakResource.call($0) { resource in
                    UnusedPhase.prepare.isDefault(of: resource) { resource.prepareForFork() } ? FORKGUARD_UNUSED : 0
                }
            }
            resource.parent = {
                WeakResource.call($0) { resource in
                    UnusedPhase.resume.isDefault(of: resource) { resource.resumeAfterFork() } ? FORKGUARD_UNUSED : 0
                }
            }
            resource.child = {
                WeakResource.call($0) { resource in
                    resource.discardAfterFork()
                    return 0
                }
            }
            resource.probe = { WeakResource.call($0) { _ in 0 } }
            resource.release = { Unmanaged<WeakResource>.fromOpaque($0!).release() }
        }
    }

    private static func call(_ context: UnsafeMutableRawPointer?, _ phase: (any ForkSafe) -> Int32) -> Int32 {
        borrow(context, WeakResource.self) {
            guard let resource = $0.resource else { return FORKGUARD_GONE }
            return phase(resource)
        }
    }
}

/// What the C registry keeps for ``ForkGuard/onFork(name:prepare:parent:child:file:line:)``.
final class HookClosures {
    typealias Hook = @Sendable () throws -> Void

    private let prepare: Hook?, parent: Hook?, child: Hook?

    init(prepare: Hook?, parent: Hook?, child: Hook?) {
        self.prepare = prepare
        self.parent = parent
        self.child = child
    }

    func register(name: String) -> ForkRegistration {
        registerContext(self, name: name, flags: 0) { resource in
            if prepare != nil { resource.prepare = { HookClosures.call($0, \.prepare) } }
            if parent != nil { resource.parent = { HookClosures.call($0, \.parent) } }
            if child != nil { resource.child = { HookClosures.call($0, \.child) } }
            resource.release = { Unmanaged<HookClosures>.fromOpaque($0!).release() }
        }
    }

    private static func call(_ context: UnsafeMutableRawPointer?, _ phase: (HookClosures) -> Hook?) -> Int32 {
        borrow(context, HookClosures.self) {
            do {
                try phase($0)?()
                return 0
            } catch {
                return hookThrew
            }
        }
    }
}

/// Without a reference count, which the registration holds anyway: counting writes to the object, so that after a fork the parent would copy its page.
private func borrow<Context: AnyObject>(_ context: UnsafeMutableRawPointer?, _: Context.Type, _ body: (Context) -> Int32) -> Int32 {
    Unmanaged<Context>.fromOpaque(context!)._withUnsafeGuaranteedRef(body)
}

/// What a hook that threw an error returns to C, for the report.
let hookThrew: Int32 = 1

private func registerContext<Context: AnyObject>(
    _ context: Context, name: String, flags: UInt32, _ fill: (inout forkguard_resource) -> Void
) -> ForkRegistration {
    var resource = forkguard_resource()
    fill(&resource)
    resource.flags = flags
    let retained = Unmanaged.passRetained(context)
    resource.context = retained.toOpaque()
    let id = name.withCString { name in
        resource.name = name
        return forkguard_register_resource(&resource)
    }
    guard id != 0 else {
        fatalError("ForkGuard could not register '\(name)': there is no memory, or there are 16,777,215 registrations already; cancel some")
    }
    return ForkRegistration(id: id)
}
