# What the paper's text describes: VisTR with nothing but the attention of its encoder exchanged,
# ten queries for each frame. No code or numbers of this model were published.
_base_ = ['./defvistr_r50_4xb1-60e_youtube-vis-2019.py']

model = dict(variant='frame_query', num_instances=10, num_queries=360)
