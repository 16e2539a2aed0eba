/* Packed elements of one value of the table's own type, for bodies that are written once for f32,
 * f64 and bf16 (micro-kernels, attention, convolution). packed_bf16.h is the other. */
#define K_GROUP 1 /* values of k in a packed element */
#define PACK_B pack_b_body
#define PACK_A pack_a_body
typedef real packed_element;
#define packed_vector V /* VL packed elements */
#define p_load v_load
#define p_broadcast v_set
#define p_dot v_fma              /* c + a b, in each lane */
#define p_dot_broadcast v_fma_at /* the same with a broadcast from memory */

/* Rows 2 r and 2 r + 1 of x become row r of packed elements: nothing to do here, x is returned. */
static inline const packed_element *att_group_rows(int nv, idx n, const real *x,
                                                   packed_element *out) {
  return (void)nv, (void)n, (void)out, x;
}

/* Neighbouring lanes become packed elements, in place: nothing to do here. */
static inline void att_group_lanes(idx rows, real *x) { (void)rows, (void)x; }

/* One vector of packed elements from n values of a row, and of the row `ld` after it where an
 * element holds two (ld 0: zeros). Lanes past n are zero. */
static inline void p_pack_rows(idx n, const real *x, idx ld, packed_element *out) {
  (void)ld;
  v_store(out, v_loadn(x, n));
}

/* n <= VL values of a row become packed elements. */
static inline void p_pack(idx n, const real *x, packed_element *out) {
  v_storen(out, v_load(x), n);
}
