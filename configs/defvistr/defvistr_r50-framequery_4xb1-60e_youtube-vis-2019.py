# What the paper's text describes: VisTR with nothing but the attention of its encoder exchanged, ten
# queries for each frame. No code or numbers of this variant were published.
_base_ = ['./defvistr_r50_4xb1-60e_youtube-vis-2019.py']

num_frames = 36
num_instances = 10

model = dict(
    variant='frame_query',
    num_instances=num_instances,
    num_queries=num_frames * num_instances,
    transformer=dict(
        _delete_=True,
        in_channels=2048,
        embed_dims=384,
        num_heads=8,
        num_points=6,
        feedforward_channels=2048,
    ),
)
