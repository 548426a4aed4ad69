namespace isthmus::kernels {
/// Rises when a kernel that must agree to the bit between sites changes its result.
extern const int arithmetic_version;
const int arithmetic_version = 1;
}  // namespace isthmus::kernels
