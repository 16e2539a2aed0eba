/* Words of one value of the variant's own type: attention_body.inc. */
#define ATT_STEP 1
#define ATT_PACK product_pack_b_body
typedef real att_word;
#define ATT_W V
#define att_load v_load
#define att_set v_set
#define att_dot v_fma
static inline const att_word *att_pairs_of_rows(int nv, idx n, const real *x, att_word *out) { return (void)nv, (void)n, (void)out, x; }
static inline void att_pairs_of_lanes(idx rows, real *x) { (void)rows, (void)x; }
