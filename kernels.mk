# Real kernels: Debian's, booted under QEMU by tests/kernels, and arm64 ones with the optimisation, which are built here.
KERNELS := build/kernels

.PHONY: kernels test-kernels kernel-arm64

# Never fails: where QEMU or the kernels cannot be installed, the tests are skipped and say so.
kernels:
	@tools/install_kernels.sh $(KERNELS) || echo "the tests of real kernels will be skipped"
	@tools/install_arm64_kernel.sh $(KERNELS) || echo "the tests of Debian's kernels for arm64 will be skipped"

test: kernels

test-kernels: $(DEV) kernels
	$(BIN)/pytest tests/kernels -m 'kernels and not arm64' $(ARGS)

kernel-arm64: $(DEV)
	tools/build_arm64_kernels.sh $(KERNELS)
	$(BIN)/pytest tests/kernels -m arm64 $(ARGS)
