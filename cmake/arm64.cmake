# Cross-build for 64-bit ARM Linux on a Debian machine; the tests run under qemu-user.
#   dpkg --add-architecture arm64 && apt-get update
#   apt-get install gcc-aarch64-linux-gnu qemu-user lib{sleef,jansson,yaml,zip,protobuf-c,cmocka}-dev:arm64 libdnnl2:arm64
#   ln -s libdnnl.so.2 /usr/lib/aarch64-linux-gnu/libdnnl.so
#   apt-get download libpthreadpool0:arm64 && dpkg -x libpthreadpool0_*_arm64.deb /tmp/arm64   # not installable beside
#   cp -P /tmp/arm64/usr/lib/aarch64-linux-gnu/* /usr/lib/aarch64-linux-gnu/                   # the one of this machine
#   ln -s libpthreadpool.so.0 /usr/lib/aarch64-linux-gnu/libpthreadpool.so
# The header packages of libdnnl and libpthreadpool are this machine's: headers are the same for every architecture.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(ENV{PKG_CONFIG_LIBDIR} /usr/lib/aarch64-linux-gnu/pkgconfig:/usr/share/pkgconfig)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64;-L;/)
