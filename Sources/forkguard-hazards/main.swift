import ForkGuard
print(ForkGuard.runtimeSupport)
