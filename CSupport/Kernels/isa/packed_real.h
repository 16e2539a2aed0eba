/* Words of one value of the variant's own type, for the bodies that are written once for both
 * (attention, convolution). */
#define STEP 1
#define PACK_PANEL product_pack_b_body
#define PACK_ROWS product_pack_a_body
typedef real word;
#define WORDS V
#define w_load v_load
#define w_set v_set
#define w_dot v_fma
#define w_dot_at v_fma_at

static inline const word *att_pairs_of_rows(int nv, idx n, const real *x, word *out) {
  return (void)nv, (void)n, (void)out, x;
}

static inline void att_pairs_of_lanes(idx rows, real *x) { (void)rows, (void)x; }

/* A vector of words from n values of a row and of the next row (none: ld 0), where a word holds
 * two. */
static inline void w_rows(idx n, const real *x, idx ld, word *out) {
  (void)ld, v_store(out, v_loadn(x, n));
}

/* n <= VL values become words. */
static inline void w_narrow(idx n, const real *x, word *out) { v_storen(out, v_load(x), n); }
