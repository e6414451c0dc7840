/* SPDX-License-Identifier: MIT */
/*
 * A trace by hand, line by line: modules "a" with ranks 4 and 7 and "b" with rank 5; a round that drops 4 and gives "b" rank
 * 9; one that changes nothing; the end.
 */
#ifndef TRACE_TEXT_H
#define TRACE_TEXT_H

#define START                                                                                                \
    "{\"event\":\"start\",\"format\":1,\"lorank\":\"0.1.0\",\"label\":null,\"ranks\":3,\"parameters\":15,"   \
    "\"modules\":[{\"name\":\"a\",\"stage\":0,\"n_in\":3,\"n_out\":2,\"rank\":2,\"scale\":0.5,\"ranks\":"    \
    "[[4,0],[7,3]]},{\"name\":\"b\",\"stage\":1,\"n_in\":3,\"n_out\":2,\"rank\":1,\"scale\":1.0,\"ranks\":"  \
    "[[5,0]]}]}\n"
#define FACTS                                                                                                \
    "\"estimator\":\"ablation.exact\",\"loss_all\":3.5,\"loss_none\":4.0,\"noise_floor\":1e-7,"              \
    "\"split_correlation\":null,\"evaluations\":8,\"differentiations\":2,\"n_exact\":3,\"policy\":"          \
    "\"alora\",\"cut\":0.1,\"cut_next\":0.2,\"ranks_before\":3,\"ranks_after\":3,\"parameters_before\":15,"  \
    "\"parameters_after\":15,\"receivers\":[]"
#define SCORES                                                                                               \
    "\"scores\":[[4,0,0.1,0.05,0.05,0.01,0.12,true,true],[7,0,0.2,null,null,null,0.2,false,false],"          \
    "[5,1,0.3,null,null,null,0.3,false,false]]"
#define CHANGES                                                                                              \
    "\"dropped\":[{\"identity\":4,\"module\":0,\"score\":0.1,\"birth\":0}],"                                 \
    "\"added\":[{\"identity\":9,\"module\":1}],\"module_ranks\":[1,2]"
#define ROUND "{\"event\":\"round\",\"round\":0,\"step\":60," FACTS "," CHANGES "," SCORES "}\n"
#define NEXT                                                                                                 \
    "{\"event\":\"round\",\"round\":1,\"step\":90," FACTS ",\"dropped\":[],\"added\":[],\"module_ranks\":"   \
    "[1,2],\"scores\":[[7,0,0.2,null,null,null,null,true,false],[5,1,0.3,null,null,null,null,true,false],"   \
    "[9,1,0.4,null,null,null,null,true,false]]}\n"
#define END "{\"event\":\"end\",\"ranks\":3,\"parameters\":15,\"modules\":[[[7,3]],[[5,0],[9,60]]]}\n"

#define ROUND_OF(facts, changes, scores)                                                                     \
    "{\"event\":\"round\",\"round\":0,\"step\":60," facts "," changes "," scores "}\n"

#endif
